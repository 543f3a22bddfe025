//! The engine that names containers: its option, and what becomes of what it tells.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{sync::mpsc::Receiver, time::timeout};

use super::known;
use crate::{
    container::registry::names::Told,
    engine::{self, EngineError, State},
    intent::Asker,
    lock::lock,
    pipeline::{
        Shared,
        look::{Look, look},
    },
    text,
};

/// What an engine's list may take where somebody waits for it.
const LIST_WITHIN: Duration = Duration::from_secs(1);

/// Which engine to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct EngineArgs {
    /// The unix socket of docker, or of what speaks its protocol, which names containers; off: they
    /// go by their ids
    #[arg(long, value_name = "PATH|off", default_value = engine::DEFAULT_SOCKET)]
    docker_socket: String,
}

/// An engine that is followed.
pub struct Engine {
    socket: String,
    pub state: Arc<State>,
    told: Receiver<Told>,
    asker: Option<Asker>,
}

impl Default for EngineArgs {
    fn default() -> Self {
        Self {
            docker_socket: engine::DEFAULT_SOCKET.to_owned(),
        }
    }
}

impl EngineArgs {
    /// Where the engine listens, unless it is not to be asked.
    pub fn socket(&self) -> Option<&str> {
        Some(&*self.docker_socket).filter(|socket| !matches!(*socket, "" | "off"))
    }

    /// One look at the host, with the names that the engine tells in time.
    pub async fn look(&self) -> anyhow::Result<Look> {
        let looked = tokio::task::spawn_blocking(|| look(Path::new("/"), known::OWN_NAMES));
        let told = match self.socket() {
            Some(socket) => timeout(LIST_WITHIN, engine::list(socket)).await.ok(),
            None => None,
        };
        let mut look = looked.await.context("the look panicked")??;
        match told {
            Some(Ok(told)) => look.registry.tell(told, Instant::now()),
            // Containers go by their ids.
            Some(Err(EngineError::Absent)) | None => {}
            Some(Err(error)) => tracing::warn!(
                "docker on {}: {}; its containers go by their ids",
                self.docker_socket,
                text::error_line(&error)
            ),
        }
        Ok(look)
    }

    /// Begins to follow the engine; what it tells waits until it is heard.
    pub fn follow(&self) -> Option<Engine> {
        let (state, told) = engine::follow(self.socket()?.to_owned());
        Some(Engine {
            socket: self.docker_socket.clone(),
            state,
            told,
            asker: None,
        })
    }
}

impl Engine {
    /// Has it asked, for each container that it tells of, what its limits are meant to be.
    #[must_use]
    pub fn asking(mut self, shared: &Arc<Shared>) -> Self {
        let (socket, state) = (self.socket.clone(), Arc::clone(&self.state));
        self.asker = Some(Asker::start(socket, state, telling(shared)));
        self
    }

    /// Tells the registry what the engine told so far, at once, and from now on what it tells.
    pub fn tell(self, shared: &Arc<Shared>) {
        let Self {
            socket,
            state,
            mut told,
            asker,
        } = self;
        let tell = telling(shared);
        // The name first: with it is kept what is intended.
        let hear = move |told: Told| {
            let named = told.clone();
            let is_heard = tell(told);
            if let Some(asker) = &asker {
                asker.ask(&named);
            }
            is_heard
        };
        while let Ok(told) = told.try_recv() {
            hear(told);
        }
        if !state.connected.load(Ordering::Relaxed) {
            tracing::info!(
                "docker on {socket} is not heard yet; until it is, its containers go by their ids"
            );
        }
        tokio::spawn(async move {
            while let Some(told) = told.recv().await {
                if !hear(told) {
                    return;
                }
            }
        });
    }
}

/// Tells the registry, as long as it is there: whether it is.
fn telling(shared: &Arc<Shared>) -> impl Fn(Told) -> bool + Send + 'static {
    let shared = Arc::downgrade(shared);
    move |told| {
        let shared = shared.upgrade();
        let known = shared.map(|shared| lock(&shared.registry).tell(told, Instant::now()));
        known.is_some()
    }
}
