//! Reads the names that docker, or an engine with its protocol, gives its containers.
//!
//! A container's `create` event comes before its cgroup is made, so the agent knows its name before the init process
//! runs. A query after an event of the kernel would miss short-lived containers. A cgroup gets the name once the
//! container's process, or a record of the launcher, confirms that the cgroup is the container's.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_host::process::Process;
use agent_model::labels::{LabelPatterns, PodName};
use agent_model::lock::lock;
use agent_model::text;
use agent_registry::registry::names::{EngineMessage, Named, RunState};
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, EventMessage, HostConfig};
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use agent_model::warn_once::WarnOnce;

/// The name of the engine, in metrics.
pub const DOCKER: &str = "docker";

/// The default path of docker's socket.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How often the agent pings the engine, since a stream without events does not show a dead one.
const PING_EVERY: Duration = Duration::from_secs(10);

/// The time between two attempts to connect while nobody listens.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// The most time between two attempts, which doubles after each error.
const RETRY_AFTER_AT_MOST: Duration = Duration::from_secs(10);

/// How far back the agent asks for events, as the engine answers a moment before it sends them.
const OVERLAP: Duration = Duration::from_secs(2);

/// The capacity for messages of an engine, and for events that arrive before its list.
const QUEUE: usize = 1024;

/// The events that set or end a name, change limits, or start or end a container.
const EVENTS: [&str; 8] = [
    "create", "start", "restart", "rename", "update", "die", "destroy", "remove",
];

/// Why an engine does not report its containers.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
pub enum EngineError {
    #[error("nobody listens")]
    Absent,
    #[error("it takes no connection")]
    Connect(#[source] std::io::Error),
    #[error("a call failed")]
    Api(#[from] bollard::errors::Error),
    #[error("it did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("it told more than {QUEUE} events while it listed its containers")]
    Flood,
    #[error("it ended the stream of events")]
    Ended,
}

/// The state of the connection to an engine, for the metrics.
#[derive(Debug, Default)]
pub struct DockerState {
    /// Whether the agent follows the engine's events.
    pub connected: AtomicBool,
    /// Failed attempts to connect while somebody listened, and broken connections.
    pub errors: AtomicU64,
    /// Containers whose intended limits the engine did not report.
    pub unanswered: AtomicU64,
    exec_root: Mutex<Option<PathBuf>>,
}

impl DockerState {
    /// The directory of the records of docker's launcher, if docker was started with `--exec-root`.
    pub fn exec_root(&self) -> Option<PathBuf> {
        lock(&self.exec_root).clone()
    }
}

/// What an engine reports of one container.
#[derive(Clone, Debug, Default)]
pub struct Inspected {
    /// The limits that its user asked for, when the container was made or by a later update.
    pub config: HostConfig,
    /// The host pid of its init process; `None` while it does not run.
    pub process: Option<u32>,
}

/// A connection to an engine.
pub struct Client {
    docker: Docker,
    exec_root: Option<PathBuf>,
}

/// Follows the engine on `socket` until the receiver is dropped, and keeps the labels that `labels` allows. A slow, dead or
/// late engine delays nobody. Needs a tokio runtime.
pub fn follow(
    socket: String,
    labels: LabelPatterns,
) -> (Arc<DockerState>, mpsc::Receiver<EngineMessage>) {
    let (told, heard) = mpsc::channel(QUEUE);
    let state = Arc::new(DockerState::default());
    let follower = Follower {
        socket,
        labels,
        told,
        state: Arc::clone(&state),
    };
    tokio::spawn(follower.run());
    (state, heard)
}

impl Client {
    /// Connects to the engine on `socket`.
    ///
    /// # Errors
    /// Nobody listens, or no answer comes.
    pub async fn connect(socket: &str) -> Result<Self, EngineError> {
        let (docker, exec_root) = connect(socket).await?;
        Ok(Self { docker, exec_root })
    }

    /// The state of this connection.
    pub fn state(&self) -> DockerState {
        DockerState {
            exec_root: Mutex::new(self.exec_root.clone()),
            ..DockerState::default()
        }
    }

    /// All containers that the engine has, running or not, with the labels that `labels` allows.
    ///
    /// # Errors
    /// No answer comes.
    pub async fn list(&self, labels: &LabelPatterns) -> Result<EngineMessage, EngineError> {
        within(all(&self.docker, labels)).await
    }

    /// What the engine reports of a container; `None` if it has none with this full id.
    ///
    /// # Errors
    /// No answer comes.
    pub async fn inspect(&self, id: &str) -> Result<Option<Inspected>, EngineError> {
        within(inspect(&self.docker, id)).await
    }
}

struct Follower {
    socket: String,
    labels: LabelPatterns,
    told: mpsc::Sender<EngineMessage>,
    state: Arc<DockerState>,
}

impl Follower {
    async fn run(self) {
        let mut retry_after = RETRY_AFTER;
        let said = WarnOnce::new();
        while !self.told.is_closed() {
            let error = match self.session().await {
                Ok(()) => return,
                Err(error) => error,
            };
            if self.state.connected.swap(false, Ordering::Relaxed) {
                retry_after = RETRY_AFTER;
                said.clear();
            }
            let line = text::error_line(&error);
            if !matches!(error, EngineError::Absent) {
                self.state.errors.fetch_add(1, Ordering::Relaxed);
                let socket = &self.socket;
                said.warn(&format!("docker on {socket}: {line}; trying again"));
                retry_after = (retry_after * 2).min(RETRY_AFTER_AT_MOST);
            }
            tokio::select! {
                () = tokio::time::sleep(retry_after) => {}
                () = self.told.closed() => return,
            }
        }
    }

    /// Follows one connection to its end; `Ok` when the receiver is dropped.
    async fn session(&self) -> Result<(), EngineError> {
        let (docker, exec_root) = connect(&self.socket).await?;
        *lock(&self.state.exec_root) = exec_root;
        // Events are requested before the list, so that nothing is missed in between.
        let mut events = std::pin::pin!(events(&docker));
        let (all, early) = within(list_beside(&docker, &mut events, &self.labels)).await?;
        let mut told = vec![all];
        told.extend(early);
        for told in told {
            if self.told.send(told).await.is_err() {
                return Ok(());
            }
        }
        self.state.connected.store(true, Ordering::Relaxed);
        tracing::info!("docker on {}: its names are known", self.socket);
        let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        loop {
            let event = tokio::select! {
                event = events.next() => event.ok_or(EngineError::Ended)??,
                _ = ping.tick() => {
                    within(async { Ok(docker.ping().await?) }).await?;
                    continue;
                }
                () = self.told.closed() => return Ok(()),
            };
            if let Some(told) = from_event(event, &self.labels)
                && self.told.send(told).await.is_err()
            {
                return Ok(());
            }
        }
    }
}

/// A client with the engine's version of the protocol, and the directory of the engine's records.
async fn connect(socket: &str) -> Result<(Docker, Option<PathBuf>), EngineError> {
    // The client's own errors do not distinguish an absent engine from a bad answer.
    let listens = UnixStream::connect(PathBuf::from(socket)).await;
    let stream = listens.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => EngineError::Absent,
        _ => EngineError::Connect(error),
    })?;
    let exec_root = exec_root(&stream);
    drop(stream);
    // The client's own timeout is for the stream, which begins to answer before there is an event.
    let patience = 2 * ANSWER_WITHIN.as_secs();
    let docker = Docker::connect_with_unix(socket, patience, API_DEFAULT_VERSION)?;
    let docker = within(async { Ok(docker.negotiate_version().await?) }).await?;
    Ok((docker, exec_root))
}

/// The `--exec-root` of the engine that listens; `None` without that option, or if another program, such as systemd, listens
/// for the engine. Only root's engine counts, since only root's records confirm any cgroup.
fn exec_root(stream: &UnixStream) -> Option<PathBuf> {
    const OPTION: &str = "--exec-root";
    let peer = stream.peer_cred().ok().filter(|peer| peer.uid() == 0)?;
    let pid = u32::try_from(peer.pid()?).ok()?;
    let arguments = Process::new(Path::new("/"), pid).arguments().ok()?;
    let mut arguments = arguments.iter();
    let said = arguments.find_map(|it| it.strip_prefix(OPTION).map(str::to_owned))?;
    let path = match said.strip_prefix('=') {
        Some(path) => path.to_owned(),
        None if said.is_empty() => arguments.next()?.clone(),
        None => return None,
    };
    Some(PathBuf::from(path)).filter(|path| path.is_absolute())
}

async fn within<T>(answer: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    timeout(ANSWER_WITHIN, answer)
        .await
        .map_err(|_| EngineError::Silent(ANSWER_WITHIN))?
}

fn events(docker: &Docker) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = now.unwrap_or_default().saturating_sub(OVERLAP);
    let strings = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    docker.events(Some(EventsOptions {
        since: Some(since.as_secs().to_string()),
        until: None,
        filters: Some(HashMap::from([
            ("type".to_owned(), strings(&["container"])),
            ("event".to_owned(), strings(&EVENTS)),
        ])),
    }))
}

/// The list, and the messages of events that arrived meanwhile, which are newer.
async fn list_beside(
    docker: &Docker,
    events: &mut (impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin),
    labels: &LabelPatterns,
) -> Result<(EngineMessage, Vec<EngineMessage>), EngineError> {
    let mut early = Vec::new();
    let mut listed = std::pin::pin!(all(docker, labels));
    loop {
        tokio::select! {
            biased;
            event = events.next() => {
                early.extend(from_event(event.ok_or(EngineError::Ended)??, labels));
            }
            listed = &mut listed => return Ok((listed?, early)),
        }
        if early.len() > QUEUE {
            return Err(EngineError::Flood);
        }
    }
}

async fn all(docker: &Docker, labels: &LabelPatterns) -> Result<EngineMessage, EngineError> {
    let options = ListContainersOptions {
        all: true,
        ..ListContainersOptions::default()
    };
    let listed = docker.list_containers(Some(options)).await?;
    let listed = listed.into_iter();
    let named = listed.filter_map(|listed| from_list(listed, labels));
    Ok(EngineMessage::All(named.collect()))
}

async fn inspect(docker: &Docker, id: &str) -> Result<Option<Inspected>, EngineError> {
    use bollard::errors::Error::DockerResponseServerError as Refused;
    let found = docker.inspect_container(id, None::<InspectContainerOptions>);
    match found.await {
        // docker accepts names and starts of ids too.
        Ok(found) if found.id.as_deref() != Some(id) => Ok(None),
        Ok(found) => {
            let pid = found.state.and_then(|state| state.pid);
            let process = pid.and_then(|pid| u32::try_from(pid).ok());
            Ok(Some(Inspected {
                config: found.host_config.unwrap_or_default(),
                process: process.filter(|pid| *pid != 0),
            }))
        }
        Err(Refused {
            status_code: 404, ..
        }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn from_list(listed: ContainerSummary, labels: &LabelPatterns) -> Option<(String, Named)> {
    // A container has its own name, and one in each container that links to it: "/other/alias".
    let mut names = listed.names.unwrap_or_default().into_iter();
    let own = names.find_map(|name| {
        let name = name.strip_prefix('/').unwrap_or(&name);
        (!name.contains('/')).then(|| name.to_owned())
    });
    let all = listed.labels.unwrap_or_default();
    let named = Named {
        name: own.unwrap_or_default(),
        image: listed.image.unwrap_or_default(),
        labels: labels.select(texts(&all)),
        pod: pod(&all),
        run: match listed.state {
            None => RunState::Unreported,
            Some(ContainerSummaryStateEnum::CREATED) => RunState::Never,
            Some(ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD) => {
                RunState::Ended
            }
            Some(_) => RunState::Started,
        },
    };
    Some((listed.id?, named))
}

/// The labels are among the attributes of an event.
fn from_event(event: EventMessage, labels: &LabelPatterns) -> Option<EngineMessage> {
    let actor = event.actor?;
    let id = actor.id?;
    let run = match event.action.as_deref() {
        Some("destroy" | "remove") => return Some(EngineMessage::Removed(id)),
        Some("die") => return Some(EngineMessage::Ended(id)),
        Some("create") => RunState::Never,
        Some("start" | "restart") => RunState::Started,
        _ => RunState::Unreported,
    };
    let mut attributes = actor.attributes?;
    let mut attribute = |name| attributes.remove(name).unwrap_or_default();
    let (name, image) = (attribute("name"), attribute("image"));
    let named = Named {
        name,
        image,
        labels: labels.select(texts(&attributes)),
        pod: pod(&attributes),
        run,
    };
    Some(EngineMessage::Named(id, named))
}

/// The names and values of labels.
pub(crate) fn texts(labels: &HashMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    let labels = labels.iter();
    labels.map(|(name, value)| (&**name, &**value))
}

/// The pod of a container that the kubelet made.
pub(crate) fn pod(labels: &HashMap<String, String>) -> Option<PodName> {
    PodName::of(|name| labels.get(name).map(String::as_str))
}

#[cfg(test)]
mod tests;
