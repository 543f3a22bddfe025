//! What `agent serve` answers: over TCP what a network may know, over the unix socket all.

mod answer;
mod events;
mod pages;
pub mod socket;

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, routing::get};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use crate::{metrics::scrape::Scraper, pipeline::Shared, watch::streams::Streams};
use socket::Socket;

/// How long open connections may go on after a stop was asked for.
const GRACE: Duration = Duration::from_millis(250);

/// Scrapes answered at once: each holds what was read of all cgroups.
const SCRAPES_AT_ONCE: usize = 4;

/// What the answers are made from.
pub struct Server {
    streams: Arc<Streams>,
    pipeline: OnceLock<Arc<Shared>>,
    scraper: Arc<Scraper>,
    scrapes: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

impl Server {
    /// One that is not ready yet; streams can be opened.
    pub fn new(streams: Arc<Streams>, scraper: Scraper) -> Self {
        let (stopping, _) = watch::channel(false);
        Self {
            streams,
            pipeline: OnceLock::new(),
            scraper: Arc::new(scraper),
            scrapes: Arc::new(Semaphore::new(SCRAPES_AT_ONCE)),
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

/// The servers, under way.
pub struct Serving {
    server: Arc<Server>,
    tasks: Vec<JoinHandle<io::Result<()>>>,
}

/// Serves on both until [`Serving::stop`].
///
/// # Errors
/// Where the socket cannot be given to the runtime.
pub fn serve(server: Arc<Server>, tcp: TcpListener, socket: &Socket) -> io::Result<Serving> {
    let unix = tokio::net::UnixListener::from_std(socket.listener()?)?;
    let public = Router::new()
        .route("/", get(pages::landing))
        .route("/metrics", get(pages::metrics))
        .route("/healthz", get(pages::healthz))
        .route("/readyz", get(pages::readyz));
    let private = public
        .clone()
        .route("/v1/events", get(events::events))
        .route("/v1/containers", get(pages::containers))
        .route("/v1/namespaces", get(pages::namespaces));
    let (public, private) = (
        public.with_state(Arc::clone(&server)),
        private.with_state(Arc::clone(&server)),
    );
    let stopped = |server: &Arc<Server>| {
        let mut stopping = server.stopping.subscribe();
        async move {
            // The sender lives as long as the server.
            let _ = stopping.wait_for(|stop| *stop).await;
        }
    };
    let tcp = axum::serve(tcp, public).with_graceful_shutdown(stopped(&server));
    let unix = axum::serve(unix, private).with_graceful_shutdown(stopped(&server));
    let tasks = vec![
        tokio::spawn(tcp.into_future()),
        tokio::spawn(unix.into_future()),
    ];
    Ok(Serving { server, tasks })
}

impl Serving {
    /// Takes no more requests, ends the streams, and waits a little for what is under way.
    pub async fn stop(self) {
        self.server.stopping.send_replace(true);
        for task in self.tasks {
            // What is not done in time is cut off.
            let _ = tokio::time::timeout(GRACE, task).await;
        }
    }
}
