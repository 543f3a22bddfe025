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
use scrapes::Scrapes;
use socket::Socket;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

/// How long open connections may go on after a stop was asked for.
const GRACE: Duration = Duration::from_millis(250);

/// Answers of `/v1/containers` and `/v1/namespaces` that are made at once; who asks for more waits.
const LISTS_AT_ONCE: usize = 4;

/// Bytes of a request's head on the unix socket: a filter may have many names.
const LONG_REQUEST: usize = 128 << 10;

/// Bytes of a request's head on TCP, where nothing is to be asked for but a page.
const SHORT_REQUEST: usize = 16 << 10;

/// What the answers are made from.
pub(crate) struct Server {
    streams: Arc<EventStreams>,
    pipeline: Arc<OnceLock<Arc<PipelineState>>>,
    scrapes: Arc<Scrapes>,
    lists: Semaphore,
    stopping: watch::Sender<bool>,
}

impl Server {
    /// One that is not ready yet; streams can be opened.
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

    /// Tracing is under way.
    pub(crate) fn set_ready(&self, pipeline: &Arc<PipelineState>) {
        // There is one pipeline for the life of a server.
        let _ = self.pipeline.set(Arc::clone(pipeline));
        // Of the streams that were opened meanwhile.
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

/// The servers, under way.
pub(crate) struct Serving {
    server: Arc<Server>,
    /// Ends when all connections have.
    alive: mpsc::Receiver<Infallible>,
}

/// Serves on both until [`Serving::stop`], in a process that may have so many descriptors.
///
/// # Errors
/// Where the socket cannot be given to the runtime.
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

/// What a network may know.
fn public() -> Router<Arc<Server>> {
    Router::new()
        .route("/", get(pages::landing))
        .route("/metrics", get(pages::metrics))
        .route("/healthz", get(pages::healthz))
        .route("/readyz", get(pages::readyz))
}

/// What the clients of the unix socket may know.
fn private() -> Router<Arc<Server>> {
    public()
        .route("/v1/events", get(events::events))
        .route("/v1/containers", get(pages::containers))
        .route("/v1/namespaces", get(pages::namespaces))
}

/// What the connections of a side need, of a process that may have so many descriptors.
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
    /// Takes no more requests, ends the streams, and waits a little for what is under way.
    pub(crate) async fn stop(mut self) {
        self.server.stopping.send_replace(true);
        // What is not done in time is cut off.
        let _ = tokio::time::timeout(GRACE, self.alive.recv()).await;
    }
}
