//! The first process of a container that is named, for who joins it or looks at it.

use std::path::Path;

use super::engine::EngineArgs;
use super::known::{Candidate, Fresh, Search, running, running_in};
use crate::host::pinned::Pinned;
use crate::inventory::containers::ContainerState;
use crate::runtime::state::Store;
use crate::runtime::supervise;
use crate::server::socket;
use crate::watch::client;

/// The first process of a container that runs: of `agent run`, or of any engine that the agent knows.
///
/// What it starts to ask others has ended when it returns: the caller is to have one thread.
///
/// # Errors
/// The reason why there is none.
pub fn first_process(name: &str) -> Result<Pinned, String> {
    let own = own_process(name);
    // An ordinary user may look at nobody else's.
    if let Some(process) = own
        .as_ref()
        .filter(|_| !rustix::process::geteuid().is_root())
    {
        return Ok(process.clone());
    }
    let none = || {
        own.clone().ok_or_else(|| {
            "no container of that name runs here; agent ps shows those that do".to_owned()
        })
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = runtime.enable_all().build() else {
        return none();
    };
    runtime.block_on(async {
        let engine = EngineArgs::default();
        let found = match of_server().await {
            Some(found) => found,
            None => match engine.look().await {
                Ok(look) => running_in(&look),
                Err(_) => return none(),
            },
        };
        let fresh = Fresh::new(&engine)
            .await
            .map_err(|error| error.to_string())?;
        let known = Search::new(name, &found, &fresh).any().await;
        match known.map_err(|error| error.to_string())? {
            Some(known) => {
                known.membership().map_err(|error| error.to_string())?;
                known.process.map_or_else(none, Ok)
            }
            None => none(),
        }
    })
}

async fn of_server() -> Option<Vec<Candidate>> {
    let path = "/v1/containers";
    let states: Vec<ContainerState> = client::fetch_trusted(Path::new(socket::DEFAULT), path)
        .await
        .ok()?;
    Some(running(&states))
}

/// The first process of a container of this user's `agent run`, while its supervisor lives.
pub fn own_process(name: &str) -> Option<Pinned> {
    supervise::running(&Store::of_user(), name)
}
