//! Everything but the stream: metrics, health, containers, namespaces.

use std::{collections::BTreeMap, sync::Arc};

use agent_ebpf::Namespace;
use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde::Serialize;

use super::Server;
use crate::{
    container::{registry::Registry, say::named},
    event::clock::{Clock, Moment},
    lock::lock,
    metrics,
    pipeline::Shared,
    text,
    watch::record::{Container, Namespaces},
};

pub async fn landing() -> Html<&'static str> {
    Html(
        "<!doctype html><title>agent</title><h1>agent</h1>\
         <p>What containers do to the kernel of this host.\
         <ul><li><a href=\"/metrics\">/metrics</a>: for Prometheus\
         <li><a href=\"/healthz\">/healthz</a>: the process answers\
         <li><a href=\"/readyz\">/readyz</a>: the probes are attached</ul>\n",
    )
}

pub async fn healthz() -> &'static str {
    "ok\n"
}

pub async fn readyz(State(server): State<Arc<Server>>) -> Response {
    match server.pipeline.get() {
        Some(_) => "ready\n".into_response(),
        None => not_ready(),
    }
}

fn not_ready() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "not ready: the probes are being attached\n",
    )
        .into_response()
}

/// Reads on a thread where waiting for the kernel holds up nobody.
async fn blocking<T, F>(server: Arc<Server>, read: F) -> Response
where
    T: IntoResponse + Send + 'static,
    F: FnOnce(&Server, &Arc<Shared>) -> Result<T, Box<dyn std::error::Error>> + Send + 'static,
{
    let read = tokio::task::spawn_blocking(move || {
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

pub async fn metrics(State(server): State<Arc<Server>>) -> Response {
    blocking(server, |server, shared| {
        let answer = server.scraper.scrape(shared)?;
        let chunks = Arc::clone(&server.scraper).text(Arc::clone(shared), answer);
        let chunks = chunks.map(|chunk| Ok::<_, std::convert::Infallible>(Bytes::from(chunk)));
        let kind = [(header::CONTENT_TYPE, metrics::text::CONTENT_TYPE)];
        Ok((kind, Body::from_stream(futures_util::stream::iter(chunks))))
    })
    .await
}

/// One of `/v1/containers`.
#[derive(Debug, Serialize)]
struct ContainerState {
    #[serde(flatten)]
    container: Container,
    running: bool,
    /// The first process; null where it is not known.
    pid: Option<u32>,
    /// RFC 3339; null while it does not run.
    started: Option<Moment>,
    /// Those of the first process.
    namespaces: Option<Namespaces>,
}

pub async fn containers(State(server): State<Arc<Server>>) -> Response {
    blocking(server, |_, shared| {
        Ok(Json(container_states(&lock(&shared.registry))))
    })
    .await
}

fn container_states(registry: &Registry) -> Vec<ContainerState> {
    let clock = Clock::now();
    let states = registry.containers().map(|cgroup| ContainerState {
        container: Container::clone(&cgroup.container),
        running: cgroup.life.running(),
        pid: cgroup.life.init().map(|init| init.pid),
        started: cgroup.life.started().map(|time| clock.moment(time)),
        namespaces: cgroup.life.init().map(|init| named(&init.namespaces)),
    });
    let mut states: Vec<_> = states.collect();
    states.sort_by(|a, b| a.container.cgroup.cmp(&b.container.cgroup));
    states
}

/// One of `/v1/namespaces`.
#[derive(Debug, Serialize)]
struct NamespaceState {
    #[serde(rename = "type")]
    kind: &'static str,
    inode: u32,
    /// Whether it is the host's own.
    host: bool,
    processes: u32,
    /// The ids of the containers that have processes in it.
    containers: Vec<String>,
}

pub async fn namespaces(State(server): State<Arc<Server>>) -> Response {
    blocking(server, |_, shared| {
        let tasks = lock(&shared.kernel).snapshot()?;
        Ok(Json(namespace_states(&tasks, &lock(&shared.registry))))
    })
    .await
}

fn namespace_states(tasks: &[agent_ebpf::Task], registry: &Registry) -> Vec<NamespaceState> {
    // What a process's children will be in is no namespace of the process.
    let types = Namespace::ALL.iter().filter(|namespace| {
        !matches!(
            namespace,
            Namespace::PidForChildren | Namespace::TimeForChildren
        )
    });
    let types: Vec<_> = types.collect();
    let mut found: BTreeMap<(&str, u32), NamespaceState> = BTreeMap::new();
    for task in tasks {
        let place = registry.locate(task).container();
        for namespace in &types {
            let inode = task.namespaces[**namespace as usize];
            if inode == 0 {
                continue;
            }
            let host = registry.host()[**namespace as usize] == inode;
            let kind = namespace.name();
            let state = found
                .entry((kind, inode))
                .or_insert_with(|| NamespaceState {
                    kind,
                    inode,
                    host,
                    processes: 0,
                    containers: Vec::new(),
                });
            state.processes += 1;
            if let Some(container) = &place
                && container.kind == crate::watch::record::ContainerKind::Container
                && !state.containers.contains(&container.id)
            {
                state.containers.push(container.id.clone());
            }
        }
    }
    found.into_values().collect()
}
