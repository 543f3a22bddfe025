//! The engine's own names: docker, or what speaks its protocol, on a unix socket.
//!
//! A container's `create` event comes before its cgroup is made, so that its name is known before
//! the first process runs. Asking after an event of the kernel would miss what lives shortly.

use std::{
    collections::HashMap,
    io::ErrorKind,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{ContainerSummary, EventMessage, HostConfig},
    query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions},
};
use futures_util::{Stream, StreamExt as _};
use tokio::{
    net::UnixStream,
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{
    container::registry::names::{Named, Told},
    text,
};

/// The name of the engine, in metrics.
pub const DOCKER: &str = "docker";

/// Where docker listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// What an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Between two questions whether it still answers: a stream without events says nothing of that.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Between two attempts: where nobody listens yet, and at most where somebody does not answer well.
const RETRY_AFTER: Duration = Duration::from_millis(250);
const RETRY_AFTER_AT_MOST: Duration = Duration::from_secs(10);

/// Of the events before the stream is open, those of this time are asked for: the engine answers a
/// moment before it listens.
const OVERLAP: Duration = Duration::from_secs(2);

/// Words of an engine that wait to be heard, and events while the list is under way.
const QUEUE: usize = 1024;

/// The events that tell or end a name, or change limits.
const EVENTS: [&str; 7] = [
    "create", "start", "restart", "rename", "update", "destroy", "remove",
];

/// Why an engine tells no names.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("nobody listens")]
    Absent,
    #[error("it takes no connection")]
    Connect(#[source] std::io::Error),
    #[error("a call failed")]
    Api(#[from] bollard::errors::Error),
    #[error("it did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent,
    #[error("it told more than {QUEUE} events while it listed its containers")]
    Flood,
    #[error("it ended the stream of events")]
    Ended,
}

/// How it stands with an engine, for the metrics.
#[derive(Debug, Default)]
pub struct State {
    pub connected: AtomicBool,
    /// Attempts that failed though somebody listened, and connections that broke off.
    pub errors: AtomicU64,
    /// Containers whose intended limits it was asked for in vain.
    pub unanswered: AtomicU64,
}

/// A connection to an engine.
pub struct Client(Docker);

/// Follows the engine on `socket` for as long as somebody takes what it tells. One that is slow,
/// dead or comes later holds up nobody. Needs a tokio runtime.
pub fn follow(socket: String) -> (Arc<State>, mpsc::Receiver<Told>) {
    let (told, heard) = mpsc::channel(QUEUE);
    let state = Arc::new(State::default());
    let follower = Follower {
        socket,
        told,
        state: Arc::clone(&state),
    };
    tokio::spawn(follower.run());
    (state, heard)
}

/// All containers that the engine has now, running or not.
///
/// # Errors
/// Where nobody listens, or no answer comes.
pub async fn list(socket: &str) -> Result<Told, EngineError> {
    let docker = connect(socket).await?;
    within(all(&docker)).await
}

impl Client {
    /// # Errors
    /// Where nobody listens, or no answer comes.
    pub async fn connect(socket: &str) -> Result<Self, EngineError> {
        connect(socket).await.map(Self)
    }

    /// What was asked for when a container was made, or since; `None` where the engine has none of this full id.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn config(&self, id: &str) -> Result<Option<HostConfig>, EngineError> {
        within(config(&self.0, id)).await
    }
}

struct Follower {
    socket: String,
    told: mpsc::Sender<Told>,
    state: Arc<State>,
}

impl Follower {
    async fn run(self) {
        let mut retry_after = RETRY_AFTER;
        while !self.told.is_closed() {
            let error = match self.session().await {
                Ok(()) => return,
                Err(error) => error,
            };
            if self.state.connected.swap(false, Ordering::Relaxed) {
                retry_after = RETRY_AFTER;
            }
            let line = text::error_line(&error);
            if !matches!(error, EngineError::Absent) {
                self.state.errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("docker on {}: {line}; trying again", self.socket);
                retry_after = (retry_after * 2).min(RETRY_AFTER_AT_MOST);
            }
            tokio::select! {
                () = tokio::time::sleep(retry_after) => {}
                () = self.told.closed() => return,
            }
        }
    }

    /// One connection, to its end; `Ok` where nobody wants to hear more.
    async fn session(&self) -> Result<(), EngineError> {
        let docker = connect(&self.socket).await?;
        // First the events, then the list, so that nothing falls between.
        let mut events = std::pin::pin!(events(&docker));
        let (all, early) = within(list_beside(&docker, &mut events)).await?;
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
            if let Some(told) = from_event(event)
                && self.told.send(told).await.is_err()
            {
                return Ok(());
            }
        }
    }
}

/// A client that speaks the engine's version of the protocol.
async fn connect(socket: &str) -> Result<Docker, EngineError> {
    // The client's own errors do not tell nobody from a bad answer.
    let listens = UnixStream::connect(PathBuf::from(socket)).await;
    listens.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => EngineError::Absent,
        _ => EngineError::Connect(error),
    })?;
    // Its own patience is for the stream, which begins to answer before there is an event.
    let patience = 2 * ANSWER_WITHIN.as_secs();
    let docker = Docker::connect_with_unix(socket, patience, API_DEFAULT_VERSION)?;
    within(async { Ok(docker.negotiate_version().await?) }).await
}

async fn within<T>(answer: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    timeout(ANSWER_WITHIN, answer)
        .await
        .map_err(|_| EngineError::Silent)?
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

/// The list, and what the events told meanwhile, which is newer.
async fn list_beside(
    docker: &Docker,
    events: &mut (impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin),
) -> Result<(Told, Vec<Told>), EngineError> {
    let mut early = Vec::new();
    let mut listed = std::pin::pin!(all(docker));
    loop {
        tokio::select! {
            biased;
            event = events.next() => early.extend(from_event(event.ok_or(EngineError::Ended)??)),
            listed = &mut listed => return Ok((listed?, early)),
        }
        if early.len() > QUEUE {
            return Err(EngineError::Flood);
        }
    }
}

async fn all(docker: &Docker) -> Result<Told, EngineError> {
    let options = ListContainersOptions {
        all: true,
        ..ListContainersOptions::default()
    };
    let listed = docker.list_containers(Some(options)).await?;
    Ok(Told::All(
        listed.into_iter().filter_map(from_list).collect(),
    ))
}

async fn config(docker: &Docker, id: &str) -> Result<Option<HostConfig>, EngineError> {
    use bollard::errors::Error::DockerResponseServerError as Refused;
    let found = docker.inspect_container(id, None::<InspectContainerOptions>);
    match found.await {
        // It takes names too, and beginnings of ids.
        Ok(found) => Ok(found
            .host_config
            .filter(|_| found.id.as_deref() == Some(id))),
        Err(Refused {
            status_code: 404, ..
        }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn from_list(listed: ContainerSummary) -> Option<(String, Named)> {
    // Beside its own, a container may have a name in each that links to it: "/other/alias".
    let mut names = listed.names.unwrap_or_default().into_iter();
    let own = names.find_map(|name| {
        let name = name.strip_prefix('/').unwrap_or(&name);
        (!name.contains('/')).then(|| name.to_owned())
    });
    let named = Named {
        name: own.unwrap_or_default(),
        image: listed.image.unwrap_or_default(),
    };
    Some((listed.id?, named))
}

fn from_event(event: EventMessage) -> Option<Told> {
    let actor = event.actor?;
    let id = actor.id?;
    if matches!(event.action.as_deref(), Some("destroy" | "remove")) {
        return Some(Told::Removed(id));
    }
    let mut attributes = actor.attributes?;
    let mut attribute = |name| attributes.remove(name).unwrap_or_default();
    let named = Named {
        name: attribute("name"),
        image: attribute("image"),
    };
    Some(Told::Named(id, named))
}

#[cfg(test)]
mod tests;
