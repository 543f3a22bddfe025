//! The engine that names containers: its option, and how its messages reach the registry.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_engines::docker;
use agent_engines::docker::{Client, DockerState, EngineError};
use agent_engines::witness::ask::Asker;
use agent_engines::witness::engine::inspect;
use agent_engines::witness::{Intents, Records};
use agent_host::hierarchy::Hierarchies;
use agent_model::labels::LabelPatterns;
use agent_model::lock::lock;
use agent_model::text;
use agent_pipeline::look::{HostLook, look, look_as_user};
use agent_pipeline::{PipelineError, PipelineState};
use agent_registry::claim::Witnesses;
use agent_registry::registry::Registry;
use agent_registry::registry::names::EngineMessage;
use anyhow::Context as _;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// The time that a command waits for an engine's answer. On a busy machine an answer takes seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Whether the engine failed to answer. Nobody waits for it again then, and the note is printed once.
static FAILED: AtomicBool = AtomicBool::new(false);

/// The option that selects the engine to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct EngineArgs {
    /// The unix socket of docker, or of an engine with its protocol, which names containers; off: ask no
    /// engine, and show its containers by their ids
    #[arg(long, value_name = "PATH|off", default_value = docker::DEFAULT_SOCKET, value_parser = super::socket::of_engine())]
    docker_socket: String,
}

/// An engine whose events this process follows.
pub struct Engine {
    socket: String,
    pub state: Arc<DockerState>,
    told: Receiver<EngineMessage>,
    asker: Option<Asker>,
}

impl Default for EngineArgs {
    fn default() -> Self {
        Self {
            docker_socket: docker::DEFAULT_SOCKET.to_owned(),
        }
    }
}

impl EngineArgs {
    /// The engine's socket; None where the user wants no engine to be asked.
    pub fn socket(&self) -> Option<&str> {
        Some(&*self.docker_socket).filter(|socket| !matches!(*socket, "" | "off"))
    }

    /// Connects to the engine; None where it does not answer in time.
    pub async fn connect(&self) -> Option<Client> {
        self.answer(Client::connect(self.socket()?)).await
    }

    /// The engine's answer. Where it fails or does not come in time, a note says that the engine's knowledge is missing.
    pub async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, EngineError>>,
    ) -> Option<T> {
        if FAILED.load(Ordering::Relaxed) {
            return None;
        }
        let answer = timeout(ANSWER_WITHIN, answer).await;
        match answer.unwrap_or(Err(EngineError::Silent(ANSWER_WITHIN))) {
            Ok(answer) => Some(answer),
            Err(EngineError::Absent) => None,
            Err(error) => {
                if !FAILED.swap(true, Ordering::Relaxed) {
                    let (socket, why) = (&self.docker_socket, text::error_line(&error));
                    text::note(&format!(
                        "docker on {socket}: {why}; what it knows of its containers is not known here"
                    ));
                }
                None
            }
        }
    }

    /// Scans the host once, and adds the names that the engine reports in time.
    pub async fn look(&self) -> anyhow::Result<HostLook> {
        self.look_by(look).await
    }

    /// Does the same as [`Self::look`], and finds only the processes that an ordinary user may see.
    pub async fn look_as_user(&self) -> anyhow::Result<HostLook> {
        self.look_by(look_as_user).await
    }

    async fn look_by(
        &self,
        look: fn(&Path, &Witnesses) -> Result<HostLook, PipelineError>,
    ) -> anyhow::Result<HostLook> {
        let client = self.connect().await;
        let docker = client.as_ref().map(state);
        let witnesses = witnesses(Intents::Leave, docker, LabelPatterns::all())?;
        let looked = tokio::task::spawn_blocking(move || look(Path::new("/"), &witnesses));
        let mut look = looked.await.context("the look panicked")??;
        if let Some(client) = client {
            // A container that the engine does not report in time keeps its id for a name, or stays unconfirmed.
            self.answer(tell(&client, &mut look.registry)).await;
        }
        Ok(look)
    }

    /// Begins to follow the engine's events, and keeps the labels that `labels` allows. Events are queued until
    /// [`Engine::tell`] is called.
    pub fn follow(&self, labels: LabelPatterns) -> Option<Engine> {
        let (state, told) = docker::follow(self.socket()?.to_owned(), labels);
        Some(Engine {
            socket: self.docker_socket.clone(),
            state,
            told,
            asker: None,
        })
    }
}

impl Engine {
    /// Asks the engine for the intended limits of each container that it reports.
    #[must_use]
    pub fn asking(mut self, shared: &Arc<PipelineState>) -> Self {
        let (socket, state) = (self.socket.clone(), Arc::clone(&self.state));
        self.asker = Some(Asker::start(socket, state, telling(shared)));
        self
    }

    /// Applies the engine's events to the registry: the queued ones at once, later ones as they arrive.
    pub fn tell(self, shared: &Arc<PipelineState>) {
        let Self {
            socket,
            state,
            mut told,
            asker,
        } = self;
        let tell = telling(shared);
        let looking = Arc::downgrade(shared);
        // The name comes first, because the registry keeps intended limits with the name.
        let hear = move |told: EngineMessage| {
            let named = told.clone();
            let is_heard = tell(told);
            // Once the engine has answered, the directory of its records is known.
            if matches!(named, EngineMessage::All(_))
                && let Some(shared) = looking.upgrade()
            {
                shared.confirm_claims();
            }
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
        let hear = Arc::new(hear);
        tokio::spawn(async move {
            while let Some(told) = told.recv().await {
                let hear = Arc::clone(&hear);
                // The closure waits for the registry's lock, and reads files.
                let heard = tokio::task::spawn_blocking(move || hear(told));
                if !heard.await.unwrap_or(false) {
                    return;
                }
            }
        });
    }
}

/// The records and engines that can confirm a claim. They keep the labels that `labels` allows.
///
/// # Errors
/// The host's hierarchies cannot be found.
pub(super) fn witnesses(
    intents: Intents,
    docker: Option<Arc<DockerState>>,
    labels: LabelPatterns,
) -> anyhow::Result<Witnesses> {
    let hierarchies = Hierarchies::discover(Path::new("/"))?;
    let records = Records::new(hierarchies, intents, docker, labels);
    Ok(Witnesses::new(move |claim| records.confirm(claim)))
}

/// The state of a connected engine.
pub(super) fn state(client: &Client) -> Arc<DockerState> {
    Arc::new(client.state())
}

/// Applies the engine's list of containers to the registry, and asks the engine about claims that no record confirms.
async fn tell(client: &Client, registry: &mut Registry) -> Result<(), EngineError> {
    let told = client.list(&LabelPatterns::all()).await?;
    let known: HashSet<String> = match &told {
        EngineMessage::All(all) => all.iter().map(|(id, _)| id.clone()).collect(),
        _ => HashSet::new(),
    };
    registry.apply(told, Instant::now());
    let claims = registry.unconfirmed(usize::MAX).into_iter();
    let ids: HashSet<String> = claims.map(|claim| claim.id).collect();
    for id in ids.intersection(&known) {
        if let Some((_, confirmation)) = inspect(client, id).await? {
            registry.confirm(confirmation);
        }
    }
    Ok(())
}

/// A function that applies a message to the registry. It returns false once the registry has been dropped.
fn telling(shared: &Arc<PipelineState>) -> impl Fn(EngineMessage) -> bool + Send + 'static {
    let shared = Arc::downgrade(shared);
    move |told| {
        let shared = shared.upgrade();
        let known = shared.map(|shared| lock(&shared.registry).apply(told, Instant::now()));
        known.is_some()
    }
}
