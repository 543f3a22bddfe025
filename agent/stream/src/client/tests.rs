//! What a client makes of what a server says.

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
use crate::lines::LINE_MAX;

/// A socket on which the one client gets `answer`, whatever it asks, and then the end.
pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> (TempDir, PathBuf) {
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
    connect(socket, &EventFilter::default()).await.unwrap_err()
}

/// All lines up to the end or an error.
async fn lines(mut events: ServerEvents) -> (Vec<String>, Option<ClientError>) {
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
    let filter = EventFilter {
        containers,
        ..EventFilter::default()
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
        let stream = connect(&socket, &EventFilter::default()).await.unwrap();
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
    let stream = connect(&socket, &EventFilter::default()).await.unwrap();
    let (lines, error) = lines(stream).await;
    assert_eq!(lines, ["{}"]);
    assert!(matches!(error, Some(ClientError::Line(_))), "{error:?}");
}
