//! The stream of a running `agent serve`, over its unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::text::{escape, note};

use super::filter::Filter;
use super::lines::{Lines, LongLine};
use super::query;

/// Bytes of a refusal that are read.
const REFUSAL_MAX: usize = 4096;
/// Bytes of a whole answer that are read: enough for the containers that a host can have.
const ANSWER_MAX: usize = 256 << 20;
/// How long the server may take to begin its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why there is no stream, or no more of it.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error("no agent serve on {}", socket.display())]
    NoServer { socket: PathBuf, source: io::Error },
    #[error("no permission to use {}: it is for the user that runs agent serve", socket.display())]
    Denied { socket: PathBuf, source: io::Error },
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
    #[error("the stream of agent serve has a line that is no record's")]
    Line(#[from] LongLine),
}

impl ClientError {
    /// Whether nobody listens, so that one may as well do without.
    pub fn is_no_server(&self) -> bool {
        matches!(self, Self::NoServer { .. })
    }
}

/// Whose server may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Anybody's; standard error says whose, if it is neither root's nor this user's.
    Told,
    /// Root's or this user's.
    Own,
}

/// Asks the server on `socket` for the events that `filter` wants. Needs a tokio runtime.
pub async fn connect(socket: &Path, filter: &Filter) -> Result<Events, ClientError> {
    let path = format!("/v1/events?{}", query::write(filter));
    let body = get(socket, &path, Trust::Told).await?;
    Ok(Events {
        body: Some(body),
        lines: Lines::default(),
    })
}

/// Asks for the whole of an answer of the server on `socket`, as JSON. Needs a tokio runtime.
pub async fn fetch<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, ClientError> {
    fetch_of(socket, path, Trust::Told).await
}

/// Likewise, of root's server or this user's: for what is acted upon and not shown.
pub async fn fetch_trusted<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
) -> Result<T, ClientError> {
    fetch_of(socket, path, Trust::Own).await
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

/// The body of what the server on `socket` answers to a GET of `path`, where that is a good answer.
async fn get(socket: &Path, path: &str, trust: Trust) -> Result<Incoming, ClientError> {
    let request = request(path)?;
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| connect_error(socket, source))?;
    if let Some(user) = stranger(&stream) {
        match trust {
            Trust::Told => say_stranger(socket, user),
            Trust::Own => {
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

/// The user whose process listens, if it is neither root nor this user. What cannot be told is nobody's (the overflow uid).
fn stranger(stream: &UnixStream) -> Option<u32> {
    const OVERFLOW: u32 = 65_534;
    let user = stream.peer_cred().map_or(OVERFLOW, |peer| peer.uid());
    let own = rustix::process::geteuid().as_raw();
    (user != 0 && user != own).then_some(user)
}

/// Says it once, on standard error: what follows is not the host's word.
fn say_stranger(socket: &Path, user: u32) {
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
        io::ErrorKind::PermissionDenied => ClientError::Denied { socket, source },
        _ => ClientError::Connect { socket, source },
    }
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
    // It ends by itself when the body is read or dropped; its error arrives at the body too.
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// The first line of a refusal; what cannot be read of it is left out.
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

/// The lines of a stream: JSON, one record each.
#[derive(Debug)]
pub struct Events {
    /// None: the stream has ended.
    body: Option<Incoming>,
    lines: Lines,
}

impl Events {
    /// The next lines, whole and with their ends; None where the server ended the stream. Some may
    /// be empty, to keep a connection alive. After an error there is nothing more.
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

#[cfg(test)]
pub(super) mod tests {
    use std::error::Error;
    use std::os::unix::net::UnixListener as StdListener;

    use axum::Router;
    use axum::body::Body;
    use axum::extract::RawQuery;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::watch::lines::LINE_MAX;

    /// A socket on which the one client gets `answer`, whatever it asks, and then the end.
    pub fn answering(answer: impl Into<Vec<u8>>) -> (TempDir, PathBuf) {
        let (dir, socket) = path();
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = answer.into();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            // The client may have had enough.
            let _ = stream.write_all(&answer).await;
        });
        (dir, socket)
    }

    fn path() -> (TempDir, PathBuf) {
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("agent.sock");
        (dir, socket)
    }

    async fn serve(events: Router) -> (TempDir, PathBuf) {
        let (dir, socket) = path();
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async { axum::serve(listener, events).await });
        (dir, socket)
    }

    async fn refusal(socket: &Path) -> ClientError {
        connect(socket, &Filter::default()).await.unwrap_err()
    }

    /// All lines up to the end or an error.
    async fn lines(mut events: Events) -> (Vec<String>, Option<ClientError>) {
        let mut lines: Vec<String> = Vec::new();
        while let Some(some) = events.next().await {
            match some {
                Ok(some) => {
                    let some = String::from_utf8(some.to_vec()).unwrap();
                    lines.extend(some.lines().filter(|it| !it.is_empty()).map(str::to_owned));
                }
                Err(error) => {
                    assert!(events.next().await.is_none(), "an error is the end");
                    return (lines, Some(error));
                }
            }
        }
        assert!(events.next().await.is_none(), "the end stays the end");
        (lines, None)
    }

    #[tokio::test]
    async fn the_server_gets_the_filter_and_the_client_the_lines() {
        let (asked, mut asks) = mpsc::channel(1);
        let events = async move |RawQuery(query): RawQuery| {
            asked.send(query).await.unwrap();
            let chunks = ["{\"a\"", ":1}\n\n{\"b\":2}\n{", "", "}\n"];
            Body::from_stream(tokio_stream::iter(chunks.map(Ok::<_, io::Error>)))
        };
        let (_dir, socket) = serve(Router::new().route("/v1/events", get(events))).await;

        let filter = query::parse("kind=oom&comm=a+b%26&host=true").unwrap();
        let stream = connect(&socket, &filter).await.unwrap();
        assert_eq!(
            query::parse(&asks.recv().await.unwrap().unwrap()).unwrap(),
            filter
        );
        let (lines, error) = lines(stream).await;
        assert_eq!(lines, ["{\"a\":1}", "{\"b\":2}", "{}"]);
        assert!(error.is_none(), "{error:?}");
    }

    #[tokio::test]
    async fn a_refusal_says_why() {
        let events = async || (StatusCode::BAD_REQUEST, "unknown parameter \x1b[31m\nmore");
        let (_dir, socket) = serve(Router::new().route("/v1/events", get(events))).await;
        let error = refusal(&socket).await;
        assert_eq!(
            error.to_string(),
            "agent serve refused with 400 Bad Request: unknown parameter \\x1b[31m"
        );
        assert!(!error.is_no_server());
    }

    #[tokio::test]
    async fn nobody_listens() {
        let (_dir, socket) = path();
        let missing = refusal(&socket).await;
        drop(StdListener::bind(&socket).unwrap());
        let stale = refusal(&socket).await;
        for error in [missing, stale] {
            assert!(error.is_no_server(), "{error:?}");
            assert_eq!(
                error.to_string(),
                format!("no agent serve on {}", socket.display())
            );
        }
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_used_is_not_nobody() {
        // root may use any socket: the kernel's answer to others is made up here.
        let denied = connect_error(Path::new("/s"), io::ErrorKind::PermissionDenied.into());
        assert!(matches!(denied, ClientError::Denied { .. }));
        let too_long = refusal(Path::new(&"s".repeat(200))).await;
        assert!(
            matches!(too_long, ClientError::Connect { .. }),
            "{too_long:?}"
        );
        assert!(!denied.is_no_server() && !too_long.is_no_server());
    }

    #[tokio::test]
    async fn a_filter_may_be_too_long() {
        let (_dir, socket) = path();
        let containers = (0..5000).map(|i| format!("container-{i:05}")).collect();
        let filter = Filter {
            containers,
            ..Filter::default()
        };
        let error = connect(&socket, &filter).await.unwrap_err();
        assert!(matches!(error, ClientError::Filter { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_no_server_of_events_is_told() {
        let (_dir, socket) = answering("220 mail.example ESMTP\r\n");
        let error = refusal(&socket).await;
        assert!(matches!(error, ClientError::Http { .. }), "{error:?}");
        assert!(error.source().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_told() {
        let (_dir, socket) = path();
        let _listener = StdListener::bind(&socket).unwrap();
        let error = refusal(&socket).await;
        assert!(matches!(error, ClientError::Silent { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_told_after_its_lines() {
        let head = "HTTP/1.1 200 OK\r\n";
        for (answer, broken) in [
            ("transfer-encoding: chunked\r\n\r\n5\r\n{}\n{}\r\n", true),
            ("content-length: 9\r\n\r\n{}\n{", true),
            ("content-length: 4\r\n\r\n{}\n{", false),
        ] {
            let (_dir, socket) = answering(format!("{head}{answer}"));
            let stream = connect(&socket, &Filter::default()).await.unwrap();
            let (lines, error) = lines(stream).await;
            assert_eq!(lines, ["{}"]);
            match error {
                Some(ClientError::Broken(_)) if broken => {}
                Some(ClientError::Cut) if !broken => {}
                other => panic!("{answer:?}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_not_gathered_for_ever() {
        let line = "x".repeat(LINE_MAX + 1);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            2 * LINE_MAX
        );
        let (_dir, socket) = answering(format!("{head}{{}}\n{line}"));
        let stream = connect(&socket, &Filter::default()).await.unwrap();
        let (lines, error) = lines(stream).await;
        assert_eq!(lines, ["{}"]);
        assert!(matches!(error, Some(ClientError::Line(_))), "{error:?}");
    }
}
