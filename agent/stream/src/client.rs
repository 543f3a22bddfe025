//! The client of a running `agent serve`: HTTP over its unix socket.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use agent_model::text::{escape, note};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::filter::EventFilter;
use super::lines::{Lines, LongLine};
use super::query;
use super::stream_event::StreamEvent;
use crate::socket::{DEFAULT, OFF};

/// The client reads at most this many bytes of a refusal.
const REFUSAL_MAX: usize = 4096;
/// The client reads at most this many bytes of an answer: enough for the containers that a host can have.
const ANSWER_MAX: usize = 256 << 20;
/// How long the server may take to begin its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why the client has no answer, or why its stream ended.
#[derive(Debug, Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
pub enum ClientError {
    #[error("no agent serve on {}", socket.display())]
    NoServer { socket: PathBuf, source: io::Error },
    #[error("no server is asked (--socket {OFF})")]
    Off,
    #[error("whether agent serve listens on {} this user may not find out: {} {reason}; run it with sudo", socket.display(), at.display())]
    Denied {
        socket: PathBuf,
        /// The path that keeps this user out: the socket, or a directory above.
        at: PathBuf,
        reason: String,
        source: io::Error,
    },
    #[error("cannot connect to {}", socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    #[error("the filter is too long for a request: {length} bytes; want fewer values")]
    Filter {
        length: usize,
        source: hyper::http::Error,
    },
    #[error("what listens on {} does not speak HTTP", socket.display())]
    Http {
        socket: PathBuf,
        source: hyper::Error,
    },
    #[error("agent serve on {} did not answer within {} s", socket.display(), ANSWER_WITHIN.as_secs())]
    Silent { socket: PathBuf },
    /// `message` is the first line of the answer, escaped.
    #[error("agent serve refused with {status}: {message}")]
    Refused { status: StatusCode, message: String },
    #[error("the answer of agent serve broke off, or is too long")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "agent serve on {} is of another version: restart it with this one",
        socket.display()
    )]
    Version {
        socket: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} is served by uid {user}, not by root or this user: what it says is not used here", socket.display())]
    Foreign { socket: PathBuf, user: u32 },
    #[error("the stream of agent serve broke off")]
    Broken(#[source] hyper::Error),
    #[error("the stream of agent serve ended within a line")]
    Cut,
    #[error("the stream of agent serve has a line that is no event's")]
    Line(#[from] LongLine),
}

impl ClientError {
    /// Whether no server listens, or `--socket off` forbids to ask one. Then a command may trace or look by itself.
    pub fn is_no_server(&self) -> bool {
        matches!(self, Self::NoServer { .. } | Self::Off)
    }

    /// Whether this user may not find out whether a server listens. Then a command may look at what the user may see.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }

    /// The warning of a command that continues without a server although the user named a socket.
    pub fn named_in_vain(&self) -> Option<String> {
        match self {
            Self::NoServer { socket, source } if socket != Path::new(DEFAULT) => {
                let socket = socket.display();
                Some(format!(
                    "no agent serve on --socket {socket} ({source}): this command looks by itself"
                ))
            }
            _ => None,
        }
    }
}

/// Which users' servers are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Any user's. The client warns on standard error unless the server is root's or this user's.
    AnyUser,
    /// Root's or this user's.
    RootOrSelf,
}

/// Asks the server on `socket` for the events that `filter` matches. Needs a tokio runtime.
pub async fn connect(socket: &Path, filter: &EventFilter) -> Result<ServerEvents, ClientError> {
    let path = format!("/v1/events?{}", query::write(filter));
    let body = get(socket, &path, Trust::AnyUser).await?;
    Ok(ServerEvents {
        body: Some(body),
        lines: Lines::default(),
    })
}

/// Reads the whole JSON answer of the server on `socket` to a GET of `path`. Needs a tokio runtime.
pub async fn fetch<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, ClientError> {
    fetch_of(socket, path, Trust::AnyUser).await
}

/// Reads an answer as [`fetch`] does, and refuses one of another user's server: for answers that the agent acts upon.
pub async fn fetch_trusted<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
) -> Result<T, ClientError> {
    fetch_of(socket, path, Trust::RootOrSelf).await
}

async fn fetch_of<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    trust: Trust,
) -> Result<T, ClientError> {
    let body = Limited::new(get(socket, path, trust).await?, ANSWER_MAX);
    let body = timeout(ANSWER_WITHIN, body.collect())
        .await
        .map_err(|_| ClientError::Silent {
            socket: socket.into(),
        })?
        .map_err(ClientError::Answer)?;
    serde_json::from_slice(&body.to_bytes()).map_err(|source| ClientError::Version {
        socket: socket.into(),
        source,
    })
}

/// The body of the answer to a GET of `path`. A status other than 200 is an error.
async fn get(socket: &Path, path: &str, trust: Trust) -> Result<Incoming, ClientError> {
    let request = request(path)?;
    if socket == Path::new(OFF) {
        return Err(ClientError::Off);
    }
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| connect_error(socket, source))?;
    if let Some(user) = stranger(&stream) {
        match trust {
            Trust::AnyUser => warn_of_stranger(socket, user),
            Trust::RootOrSelf => {
                let socket = socket.into();
                return Err(ClientError::Foreign { socket, user });
            }
        }
    }
    let response = timeout(ANSWER_WITHIN, send(stream, request))
        .await
        .map_err(|_| ClientError::Silent {
            socket: socket.into(),
        })?
        .map_err(|source| ClientError::Http {
            socket: socket.into(),
            source,
        })?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        let message = first_line(body).await;
        return Err(ClientError::Refused {
            status: head.status,
            message,
        });
    }
    Ok(body)
}

/// The uid of the process that listens, if it is neither root's nor this user's. An unknown user counts as the overflow
/// uid.
fn stranger(stream: &UnixStream) -> Option<u32> {
    const OVERFLOW: u32 = 65_534;
    let user = stream.peer_cred().map_or(OVERFLOW, |peer| peer.uid());
    let own = rustix::process::geteuid().as_raw();
    (user != 0 && user != own).then_some(user)
}

/// Warns once, on standard error, that another user wrote what follows.
fn warn_of_stranger(socket: &Path, user: u32) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let socket = socket.display();
        note(&format!(
            "{socket} is served by uid {user}, not by root or this user: what follows is what that user says"
        ));
    });
}

fn connect_error(socket: &Path, source: io::Error) -> ClientError {
    let socket = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ClientError::NoServer { socket, source }
        }
        io::ErrorKind::PermissionDenied => {
            let (at, reason) = kept_out(&socket);
            ClientError::Denied {
                socket,
                at,
                reason,
                source,
            }
        }
        _ => ClientError::Connect { socket, source },
    }
}

/// The path that keeps this user from a socket, and why: the first directory above that this user may not search, else the
/// socket itself.
fn kept_out(socket: &Path) -> (PathBuf, String) {
    let whose = |path: &Path| {
        let found = path.symlink_metadata().ok();
        found.map_or_else(
            || "is closed to it".to_owned(),
            |found| {
                let (user, mode) = (found.uid(), found.mode() & 0o7777);
                format!("is user {user}'s, mode {mode:04o}")
            },
        )
    };
    let mut above: Vec<&Path> = socket.ancestors().skip(1).collect();
    above.reverse();
    let closed = above.into_iter().find(|path| {
        let searched = rustix::fs::access(*path, rustix::fs::Access::EXEC_OK);
        searched == Err(rustix::io::Errno::ACCESS)
    });
    let at = closed.unwrap_or(socket);
    (at.to_owned(), whose(at))
}

fn request(path: &str) -> Result<Request<Empty<Bytes>>, ClientError> {
    Request::get(path)
        .header(HOST, "agent")
        .body(Empty::new())
        .map_err(|source| ClientError::Filter {
            length: path.len(),
            source,
        })
}

async fn send(
    stream: UnixStream,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The task ends when the body is read or dropped. Its error arrives at the body too.
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// The first line of a refusal, as far as it can be read.
async fn first_line(mut body: Incoming) -> String {
    let mut text = Vec::new();
    while text.len() < REFUSAL_MAX && !text.contains(&b'\n') {
        let Ok(Some(Ok(frame))) = timeout(ANSWER_WITHIN, body.frame()).await else {
            break;
        };
        text.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    text.truncate(REFUSAL_MAX);
    let text = String::from_utf8_lossy(&text);
    escape(text.lines().next().unwrap_or_default()).into_owned()
}

/// The lines of a stream: one event in JSON each.
#[derive(Debug)]
pub struct ServerEvents {
    /// `None`: the stream has ended.
    body: Option<Incoming>,
    lines: Lines,
}

impl ServerEvents {
    /// The next whole lines, with their line ends; `None` when the server has ended the stream. The server sends empty
    /// lines to keep the connection alive. After an error the stream is at its end.
    pub async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        let lines = self.read().await.transpose();
        if !matches!(lines, Some(Ok(_))) {
            self.body = None;
        }
        lines
    }

    async fn read(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        loop {
            if let Some(lines) = self.lines.next()? {
                return Ok(Some(lines));
            }
            match body.frame().await {
                Some(Ok(frame)) => self.lines.add(frame.into_data().unwrap_or_default()),
                Some(Err(source)) => return Err(ClientError::Broken(source)),
                None if self.lines.is_empty() => return Ok(None),
                None => return Err(ClientError::Cut),
            }
        }
    }
}

/// What a source passes to an output.
#[derive(Debug)]
pub(crate) enum SourceItem {
    /// Events in JSON, a line each, as the server wrote them.
    Lines(Bytes),
    Event(Arc<StreamEvent>),
}

/// Where the events of an output come from.
pub enum EventSource {
    /// A running `agent serve`.
    Server(ServerEvents),
    /// This process, which traces by itself.
    Alone(mpsc::Receiver<Arc<StreamEvent>>),
}

impl EventSource {
    /// The next event or lines of events; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<SourceItem, ClientError>> {
        match self {
            Self::Server(events) => Some(events.next().await?.map(SourceItem::Lines)),
            Self::Alone(events) => events.recv().await.map(SourceItem::Event).map(Ok),
        }
    }

    /// The next events; `None` at the end, and at a line that is not an event.
    pub async fn events(&mut self) -> Option<Vec<Arc<StreamEvent>>> {
        match self.next().await?.ok()? {
            SourceItem::Event(event) => Some(vec![event]),
            SourceItem::Lines(lines) => {
                let lines = lines.split(|&byte| byte == b'\n');
                let lines = lines.filter(|line| !line.is_empty());
                lines
                    .map(|line| serde_json::from_slice(line).ok().map(Arc::new))
                    .collect()
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
