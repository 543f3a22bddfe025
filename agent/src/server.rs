//! The HTTP server of `agent serve`. TCP serves only what a network may know; the unix socket serves everything.

mod accept;
mod admission;
mod answer;
mod events;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod pages;
mod patience;
mod scrapes;
mod shared_stream;
pub(crate) mod socket;

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(crate) use accept::listen;
use accept::{Service, Tcp};
use admission::{Admission, Bounds};
use agent_metrics::scrape::Scraper;
use agent_metrics::traffic::{Side, Traffic};
use agent_model::text;
use agent_pipeline::PipelineState;
use agent_stream::streams::EventStreams;
use answer::Text;
use axum::Router;
use axum::routing::get;
pub(crate) use pages::ServerVersion;
use scrapes::Scrapes;
use socket::Socket;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

/// How long open connections may continue after [`Serving::stop`] was called.
const GRACE: Duration = Duration::from_millis(250);

/// The number of answers of `/v1/containers` and `/v1/namespaces` that are made at the same time. Further requests
/// wait.
const LISTS_AT_ONCE: usize = 4;

/// The most bytes of a request's head on the unix socket, where a filter may have many names.
const LONG_REQUEST: usize = 128 << 10;

/// The most bytes of a request's head on TCP, where a request has nothing but a page's path.
const SHORT_REQUEST: usize = 16 << 10;

/// The state that the handlers share.
pub(crate) struct Server {
    streams: Arc<EventStreams>,
    pipeline: Arc<OnceLock<Arc<PipelineState>>>,
    scrapes: Arc<Scrapes>,
    lists: Semaphore,
    stopping: watch::Sender<bool>,
}

impl Server {
    /// Makes a server that is not ready yet. Clients can open event streams already.
    pub(crate) fn new(streams: Arc<EventStreams>, scraper: Scraper) -> Self {
        let (stopping, _) = watch::channel(false);
        let pipeline = Arc::new(OnceLock::new());
        Self {
            streams,
            scrapes: scrapes(&pipeline, scraper),
            pipeline,
            lists: Semaphore::new(LISTS_AT_ONCE),
            stopping,
        }
    }

    /// Makes the server ready, once the pipeline traces.
    pub(crate) fn set_ready(&self, pipeline: &Arc<PipelineState>) {
        // A server has only one pipeline in its life.
        let _ = self.pipeline.set(Arc::clone(pipeline));
        // The pipeline does not know yet what the streams want that were opened before.
        pipeline.update_demand();
    }
}

fn scrapes(pipeline: &Arc<OnceLock<Arc<PipelineState>>>, scraper: Scraper) -> Arc<Scrapes> {
    let pipeline = Arc::clone(pipeline);
    Scrapes::new(move || {
        let shared = pipeline.get().ok_or_else(|| pages::NOT_READY.to_owned())?;
        let chunks = scraper.scrape(shared);
        let chunks = chunks.map_err(|error| text::error_line(&error) + "\n")?;
        Ok(Text::new(chunks))
    })
}

/// The running servers.
pub(crate) struct Serving {
    server: Arc<Server>,
    /// The channel closes when all connections have ended.
    alive: mpsc::Receiver<Infallible>,
}

/// Serves on the TCP listener and the unix socket until [`Serving::stop`]. `descriptors` is the number that this
/// process may have open.
///
/// # Errors
/// The socket cannot be registered with the runtime.
pub(crate) fn serve(
    server: Arc<Server>,
    tcp: TcpListener,
    socket: &Socket,
    descriptors: usize,
    traffic: &Arc<Traffic>,
) -> io::Result<Serving> {
    let unix = tokio::net::UnixListener::from_std(socket.listener()?)?;
    let (sender, alive) = mpsc::channel(1);
    let service = |side, router, buffer| {
        service(&server, side, router, buffer, descriptors, traffic, &sender)
    };
    let public = service(Side::Tcp, public(), SHORT_REQUEST);
    let private = service(Side::Unix, private(), LONG_REQUEST);
    tokio::spawn(accept::serve(Tcp::new(tcp), public));
    tokio::spawn(accept::serve(unix, private));
    Ok(Serving { server, alive })
}

/// The pages that a network may read.
fn public() -> Router<Arc<Server>> {
    Router::new()
        .route("/", get(pages::landing))
        .route("/metrics", get(pages::metrics))
        .route("/healthz", get(pages::healthz))
        .route("/readyz", get(pages::readyz))
}

/// The pages that the clients of the unix socket may read.
fn private() -> Router<Arc<Server>> {
    public()
        .route("/v1/events", get(events::events))
        .route("/v1/containers", get(pages::containers))
        .route("/v1/namespaces", get(pages::namespaces))
        .route("/v1/version", get(pages::version))
}

/// Makes the state that the connections of a side share. `buffer` is the most bytes of a request's head.
fn service(
    server: &Arc<Server>,
    side: Side,
    router: Router<Arc<Server>>,
    buffer: usize,
    descriptors: usize,
    traffic: &Arc<Traffic>,
    alive: &mpsc::Sender<Infallible>,
) -> Service {
    Service {
        admission: Admission::new(side, Bounds::of(side, descriptors), Arc::clone(traffic)),
        router: router.with_state(Arc::clone(server)),
        buffer,
        stopping: server.stopping.subscribe(),
        _alive: alive.clone(),
    }
}

impl Serving {
    /// Accepts no more connections, ends the streams, and waits up to 250 ms for answers in progress.
    pub(crate) async fn stop(mut self) {
        self.server.stopping.send_replace(true);
        // An answer that takes longer is cut off.
        let _ = tokio::time::timeout(GRACE, self.alive.recv()).await;
    }
}
