//! The engine that names containers: its option, and what becomes of what it tells.

use std::{sync::Arc, time::Instant};

use tokio::sync::mpsc::Receiver;

use crate::{
    container::registry::names::Told,
    engine::{self, State},
    lock::lock,
    pipeline::Shared,
};

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
    pub state: Arc<State>,
    told: Receiver<Told>,
}

impl EngineArgs {
    /// Where the engine listens, unless it is not to be asked.
    pub fn socket(&self) -> Option<&str> {
        Some(&*self.docker_socket).filter(|socket| !matches!(*socket, "" | "off"))
    }

    /// Begins to follow the engine; what it tells waits until it is heard.
    pub fn follow(&self) -> Option<Engine> {
        let (state, told) = engine::follow(self.socket()?.to_owned());
        Some(Engine { state, told })
    }
}

impl Engine {
    /// Tells the registry what the engine told so far, at once, and from now on what it tells.
    pub fn tell(mut self, shared: &Arc<Shared>) {
        while let Ok(told) = self.told.try_recv() {
            lock(&shared.registry).tell(told, Instant::now());
        }
        let shared = Arc::downgrade(shared);
        tokio::spawn(async move {
            while let Some(told) = self.told.recv().await {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                lock(&shared.registry).tell(told, Instant::now());
            }
        });
    }
}
