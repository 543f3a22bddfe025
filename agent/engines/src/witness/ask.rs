//! Asks docker for the intended limits and the init process of its containers, one container after the other. Nothing waits
//! for the answers: a slow or dead docker delays only them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_model::text;
use agent_registry::registry::names::{EngineMessage, NAMES_AT_MOST};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::engine::inspect;
use crate::docker::{Client, DockerState, EngineError};
use crate::intent::{Error, of_config};

/// Asks for containers until it is dropped.
#[derive(Debug)]
pub struct Asker {
    ids: Sender<String>,
    state: Arc<DockerState>,
}

impl Asker {
    /// Asks the engine on `socket`, and passes each answer to `tell` until that returns false. `state` counts the containers
    /// without an answer. Needs a tokio runtime.
    pub fn start(
        socket: String,
        state: Arc<DockerState>,
        tell: impl Fn(EngineMessage) -> bool + Send + 'static,
    ) -> Self {
        let (ids, asked) = mpsc::channel(NAMES_AT_MOST);
        let unanswered = Arc::clone(&state);
        tokio::spawn(async move { answer_all(&socket, &unanswered, asked, tell).await });
        Self { ids, state }
    }

    /// Asks for the containers in a message of the engine.
    pub fn ask(&self, told: &EngineMessage) {
        match told {
            EngineMessage::Named(id, _) => self.ask_for(id),
            EngineMessage::All(all) => all.iter().for_each(|(id, _)| self.ask_for(id)),
            EngineMessage::Intended(..)
            | EngineMessage::Confirmed(_)
            | EngineMessage::Ended(_)
            | EngineMessage::Removed(_) => {}
        }
    }

    fn ask_for(&self, id: &str) {
        if self.ids.try_send(id.to_owned()).is_err() {
            self.state.unanswered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn answer_all(
    socket: &str,
    state: &DockerState,
    mut asked: Receiver<String>,
    tell: impl Fn(EngineMessage) -> bool,
) {
    let mut client = None;
    while let Some(id) = asked.recv().await {
        match answer(socket, &mut client, &id).await {
            Ok(answers) => {
                if !answers.into_iter().all(&tell) {
                    return;
                }
            }
            Err(error) => {
                client = None;
                state.unanswered.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("{}", text::error_line(&error));
            }
        }
    }
}

/// The answer for one container, over the connection that exists or a new one.
async fn answer(
    socket: &str,
    client: &mut Option<Client>,
    id: &str,
) -> Result<Vec<EngineMessage>, Error> {
    let found = async {
        let connected = match client.take() {
            Some(connected) => connected,
            None => Client::connect(socket).await?,
        };
        let found = inspect(client.insert(connected), id).await?;
        Ok::<_, EngineError>(found)
    };
    let found = found
        .await
        .map_err(|source| Error::engine(socket, id, source))?;
    let Some((found, confirmation)) = found else {
        return Ok(Vec::new());
    };
    let intent = of_config(id, &found.config)?;
    let intended = EngineMessage::Intended(id.to_owned(), Arc::new(intent));
    let confirmed = confirmation.map(EngineMessage::Confirmed);
    Ok(confirmed.into_iter().chain([intended]).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agent_model::limit::{Kind, Limit, Source, Value};
    use agent_registry::registry::names::Named;
    use axum::Router;
    use axum::extract::Request;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse as _, Response};
    use tempfile::TempDir;
    use tokio::net::UnixListener;
    use tokio::time::timeout;

    use super::*;
    use crate::intent::Intent;

    /// An engine that has a and b, answers a query for c with b, and fails on d.
    fn engine(directory: &TempDir) -> String {
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let router = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        socket.to_str().unwrap().to_owned()
    }

    async fn answer(request: Request) -> Response {
        let path = request.uri().path();
        let config = |id: &str, limit: u64| {
            let host = format!(r#"{{"Memory":0,"PidsLimit":{limit}}}"#);
            format!(r#"{{"Id":"{id}","HostConfig":{host}}}"#).into_response()
        };
        match path.split("/containers/").last().unwrap_or_default() {
            "a/json" => config("a", 50),
            "b/json" | "c/json" => config("b", 60),
            "d/json" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            _ if path.ends_with("/version") => r#"{"ApiVersion":"1.41"}"#.into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    #[tokio::test]
    async fn each_that_is_told_of_is_asked_for() {
        let directory = TempDir::new().unwrap();
        let state = Arc::new(DockerState::default());
        let (answers, mut answered) = mpsc::unbounded_channel();
        let tell = move |told| answers.send(told).is_ok();
        let asker = Asker::start(engine(&directory), Arc::clone(&state), tell);
        let named = |id: &str| (id.to_owned(), Named::default());
        asker.ask(&EngineMessage::All(
            ["a", "c", "d", "e"].map(named).to_vec(),
        ));
        asker.ask(&EngineMessage::Removed("a".to_owned()));
        asker.ask(&EngineMessage::Named("b".to_owned(), Named::default()));
        let mut next = async || {
            timeout(Duration::from_secs(10), answered.recv())
                .await
                .unwrap()
        };
        for (id, tasks) in [("a", 50), ("b", 60)] {
            let limit = Value::Amount(Limit::Value(tasks));
            let intent = Intent::new(vec![(Kind::Pids, limit)], Source::Docker);
            let wanted = EngineMessage::Intended(id.to_owned(), Arc::new(intent));
            assert_eq!(next().await, Some(wanted));
        }
        assert_eq!(state.unanswered.load(Ordering::Relaxed), 1);
        // Nobody waits for an answer any more.
        drop(asker);
        assert_eq!(next().await, None);
    }
}
