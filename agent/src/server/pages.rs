//! Serves metrics, health, containers and namespaces.

use std::path::Path;
use std::sync::Arc;

use agent_host::namespace;
use agent_inventory::containers::ContainerQuery;
use agent_inventory::{containers, idle, namespaces};
use agent_model::lock::lock;
use agent_model::text;
use agent_pipeline::PipelineState;
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Server;
use super::answer::Answer;

pub(super) async fn landing() -> Html<&'static str> {
    Html(
        "<!doctype html><title>agent</title><h1>agent</h1>\
         <p>What containers do to the kernel of this host.\
         <ul><li><a href=\"/metrics\">/metrics</a>: for Prometheus\
         <li><a href=\"/healthz\">/healthz</a>: the process answers\
         <li><a href=\"/readyz\">/readyz</a>: the probes are attached</ul>\n",
    )
}

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The answer of `/v1/version`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServerVersion {
    pub(crate) version: String,
}

pub(super) async fn version() -> Json<ServerVersion> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Json(ServerVersion { version })
}

pub(super) async fn readyz(State(server): State<Arc<Server>>) -> Response {
    match server.pipeline.get() {
        Some(_) => "ready\n".into_response(),
        None => not_ready(),
    }
}

pub(super) const NOT_READY: &str = "not ready: the probes are being attached\n";

fn not_ready() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, NOT_READY).into_response()
}

/// Calls `read` on a thread for blocking work, and answers with its result. At most
/// [`LISTS_AT_ONCE`](super::LISTS_AT_ONCE) calls run at the same time.
async fn blocking<T, F>(server: Arc<Server>, read: F) -> Response
where
    T: IntoResponse + Send + 'static,
    F: FnOnce(&Server, &Arc<PipelineState>) -> Result<T, Box<dyn std::error::Error>>
        + Send
        + 'static,
{
    let _one_of_few = server.lists.acquire().await;
    let making = Arc::clone(&server);
    let read = tokio::task::spawn_blocking(move || {
        let server = making;
        let Some(shared) = server.pipeline.get() else {
            return not_ready();
        };
        read(&server, shared).map_or_else(
            |error| {
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    text::error_line(error.as_ref()) + "\n",
                )
                    .into_response()
            },
            IntoResponse::into_response,
        )
    });
    read.await
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

pub(super) async fn metrics(State(server): State<Arc<Server>>) -> Response {
    if server.pipeline.get().is_none() {
        return not_ready();
    }
    match server.scrapes.next().await {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, agent_metrics::text::CONTENT_TYPE)];
            (kind, Body::new(Answer::from(text))).into_response()
        }
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why.to_string()).into_response(),
    }
}

pub(super) async fn containers(
    State(server): State<Arc<Server>>,
    Query(wanted): Query<ContainerQuery>,
) -> Response {
    blocking(server, move |_, shared| {
        shared.confirm_claims();
        let tasks = lock(&shared.kernel).snapshot()?;
        let hierarchies = &shared.hierarchies;
        let found = {
            // Both locks are held at the same time: the counts of a removed cgroup move from the kernel to the
            // registry.
            let registry = lock(&shared.registry);
            let (mut counts, _) = lock(&shared.counts).all();
            registry.count_subtrees(&mut counts);
            containers::find(&registry, hierarchies, &tasks, Some(&counts), wanted)
        };
        let found = found.into_iter();
        let mut states: Vec<_> = found.map(|unread| unread.read(hierarchies)).collect();
        if wanted.removed {
            idle::add_kept(Path::new("/"), &mut states);
        }
        Ok(Json(states))
    })
    .await
}

pub(super) async fn namespaces(
    State(server): State<Arc<Server>>,
    Query(wanted): Query<namespaces::NamespaceQuery>,
) -> Response {
    blocking(server, move |_, shared| {
        let tasks = lock(&shared.kernel).snapshot()?;
        let mounted = namespace::mounted(Path::new("/"))?;
        let held = wanted.held(Path::new("/"));
        let registry = lock(&shared.registry);
        let found = namespaces::find(&registry, &tasks, &mounted, &held, &wanted);
        drop(registry);
        Ok(Json(namespaces::read_owners(found)))
    })
    .await
}
