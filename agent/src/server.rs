//! What `agent serve` answers: over TCP what a network may know, over the unix socket all.

mod accept;
mod admission;
mod answer;
mod events;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod pages;
mod patience;
mod scrapes;
pub mod socket;

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use accept::listen;
use accept::{Service, Tcp};
use admission::{Admission, Bounds};
use agent_model::text;
use agent_stream::streams::Streams;
use answer::Text;
use axum::Router;
use axum::routing::get;
use scrapes::Scrapes;
use socket::Socket;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

use agent_metrics::scrape::Scraper;
use agent_metrics::traffic::Side;
use agent_metrics::traffic::Traffic;
use agent_pipeline::Shared;

/// How long open connections may go on after a stop was asked for.
const GRACE: Duration = Duration::from_millis(250);

/// Answers of `/v1/containers` and `/v1/namespaces` that are made at once; who asks for more waits.
const LISTS_AT_ONCE: usize = 4;

/// Bytes of a request's head on the unix socket: a filter may have many names.
const LONG_REQUEST: usize = 128 << 10;

/// Bytes of a request's head on TCP, where nothing is to be asked for but a page.
const SHORT_REQUEST: usize = 16 << 10;

/// What the answers are made from.
pub struct Server {
    streams: Arc<Streams>,
    pipeline: Arc<OnceLock<Arc<Shared>>>,
    scrapes: Arc<Scrapes>,
    lists: Semaphore,
    stopping: watch::Sender<bool>,
}

impl Server {
    /// One that is not ready yet; streams can be opened.
    pub fn new(streams: Arc<Streams>, scraper: Scraper) -> Self {
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
    pub fn set_ready(&self, pipeline: &Arc<Shared>) {
        // There is one pipeline for the life of a server.
        let _ = self.pipeline.set(Arc::clone(pipeline));
        // Of the streams that were opened meanwhile.
        pipeline.update_demand();
    }
}

fn scrapes(pipeline: &Arc<OnceLock<Arc<Shared>>>, scraper: Scraper) -> Arc<Scrapes> {
    let pipeline = Arc::clone(pipeline);
    Scrapes::new(move || {
        let shared = pipeline.get().ok_or_else(|| pages::NOT_READY.to_owned())?;
        let chunks = scraper.scrape(shared);
        let chunks = chunks.map_err(|error| text::error_line(&error) + "\n")?;
        Ok(Text::new(chunks))
    })
}

/// The servers, under way.
pub struct Serving {
    server: Arc<Server>,
    /// Ends when all connections have.
    alive: mpsc::Receiver<Infallible>,
}

/// Serves on both until [`Serving::stop`], in a process that may have so many descriptors.
///
/// # Errors
/// Where the socket cannot be given to the runtime.
pub fn serve(
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
    pub async fn stop(mut self) {
        self.server.stopping.send_replace(true);
        // What is not done in time is cut off.
        let _ = tokio::time::timeout(GRACE, self.alive.recv()).await;
    }
}
