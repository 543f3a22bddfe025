//! Tests against an engine that they run themselves.

use std::convert::Infallible;
use std::sync::Mutex;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;

async fn list(socket: &str) -> Result<EngineMessage, EngineError> {
    Client::connect(socket)
        .await?
        .list(&LabelPatterns::default())
        .await
}

type Events = mpsc::UnboundedSender<Result<Bytes, Infallible>>;

fn named(id: &str, name: &str) -> (String, Named) {
    let named = Named {
        name: name.to_owned(),
        image: "busybox".to_owned(),
        labels: LabelPatterns::all().select([("com.docker.compose.service", "web")]),
        ..Named::default()
    };
    (id.to_owned(), named)
}

fn with(run: RunState, (id, named): (String, Named)) -> (String, Named) {
    (id, Named { run, ..named })
}

/// One label that is allowed by default, and one that is not.
const LABELS: &str = r#""com.docker.compose.service":"web","team":"blue""#;

fn event(action: &str, id: &str, name: &str) -> String {
    let attributes = format!(r#"{{"image":"busybox","name":"{name}",{LABELS}}}"#);
    let actor = format!(r#"{{"ID":"{id}","Attributes":{attributes}}}"#);
    format!(r#"{{"Type":"container","Action":"{action}","Actor":{actor}}}"#) + "\n"
}

/// An engine that answers the list only after a moment, in which an event happens.
fn engine(directory: &TempDir) -> (String, Events) {
    let socket = directory.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (events, stream) = mpsc::unbounded_channel();
    let early = events.clone();
    let stream = Arc::new(Mutex::new(Some(stream)));
    let answer = async move |request: Request| answer(request, &stream, &early).await;
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (socket.to_str().unwrap().to_owned(), events)
}

async fn answer(
    request: Request,
    stream: &Mutex<Option<UnboundedReceiver<Result<Bytes, Infallible>>>>,
    early: &Events,
) -> Response {
    let path = request.uri().path().to_owned();
    if path.ends_with("/version") {
        return r#"{"ApiVersion":"1.41"}"#.into_response();
    }
    if path.ends_with("/events") {
        let stream = stream.lock().unwrap().take().unwrap();
        return Body::from_stream(UnboundedReceiverStream::new(stream)).into_response();
    }
    early
        .send(Ok(event("rename", "a", "newer").into()))
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let names = r#""Names":["/web/alias","/old"],"Image":"busybox""#;
    format!(r#"[{{"Id":"a",{names},"State":"exited","Labels":{{{LABELS}}}}}]"#).into_response()
}

#[tokio::test]
async fn what_happens_during_the_list_is_newer_than_the_list() {
    let directory = TempDir::new().unwrap();
    let (socket, events) = engine(&directory);
    let (state, mut told) = follow(socket, LabelPatterns::default());
    let old = with(RunState::Ended, named("a", "old"));
    assert_eq!(told.recv().await, Some(EngineMessage::All(vec![old])));
    let (id, newer) = named("a", "newer");
    assert_eq!(told.recv().await, Some(EngineMessage::Named(id, newer)));
    // In two parts, as a stream may come.
    let created = event("create", "b", "db");
    let (head, tail) = created.split_at(20);
    for part in [
        head.to_owned(),
        tail.to_owned(),
        event("start", "b", "db"),
        event("die", "b", "db"),
        event("destroy", "b", "db"),
    ] {
        events.send(Ok(part.into())).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for run in [RunState::Never, RunState::Started] {
        let (id, db) = with(run, named("b", "db"));
        assert_eq!(told.recv().await, Some(EngineMessage::Named(id, db)));
    }
    assert_eq!(
        told.recv().await,
        Some(EngineMessage::Ended("b".to_owned()))
    );
    assert_eq!(
        told.recv().await,
        Some(EngineMessage::Removed("b".to_owned()))
    );
    assert!(state.connected.load(Ordering::Relaxed));
    assert_eq!(state.errors.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_is_no_engine_is_an_error_and_nobody_is_none() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("docker.sock");
    let path = socket.to_str().unwrap();
    assert!(matches!(list(path).await, Err(EngineError::Absent)));
    let listener = UnixListener::bind(&socket).unwrap();
    let router = Router::new().fallback(async || "220 mail.example ESMTP");
    tokio::spawn(async move { axum::serve(listener, router).await });
    assert!(matches!(list(path).await, Err(EngineError::Api(_))));
    let (state, _told) = follow(path.to_owned(), LabelPatterns::default());
    let counted = async {
        while state.errors.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(ANSWER_WITHIN, counted).await.unwrap();
    assert!(!state.connected.load(Ordering::Relaxed));
}
