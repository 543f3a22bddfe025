//! Containers by name or id, whoever made them: to look at, and for flags that share what another container has.

use std::path::Path;
use std::sync::Arc;

use super::engine::EngineArgs;
use crate::{
    container::registry::names::{Named, Own},
    intent,
    inventory::containers::ContainerState,
    pipeline::look::Look,
    runtime::{
        order::ChangeRoot,
        state::{DIRECTORY, Status, Store},
    },
    server::socket,
    text,
    watch::{client, record::Container},
};

/// What the state of `agent run` says of containers; it is written before their cgroups are made. Root's only: what an
/// ordinary user writes is not believed.
pub const OWN: Own = Own {
    named,
    intended: |id| {
        let intended = intent::of_agent_run(&Store::at(DIRECTORY), id);
        let intended = intended.inspect_err(|error| tracing::warn!("{}", text::error_line(error)));
        intended.ok()?.map(Arc::new)
    },
};

/// Likewise, without what is intended, for those who do not ask.
pub const OWN_NAMES: Own = Own {
    named,
    ..Own::SILENT
};

/// What a container is called, and where its files come from.
fn named(id: &str) -> Option<Named> {
    let record = Store::at(DIRECTORY).read(id).ok()?;
    let image = match record.change_root {
        ChangeRoot::Pivot => record.image,
        ChangeRoot::Chroot => format!("{} (chroot: isolates nothing but the path)", record.image),
    };
    Some(Named {
        name: record.name,
        image,
    })
}

/// Digits of an id that say which, at least.
const SHORTEST_ID: usize = 4;

/// The first process of a container that runs: of `agent run`, or of any engine that the agent knows.
///
/// What it starts to ask others has ended when it returns: the caller is to have one thread.
pub fn first_process(name: &str) -> Option<i32> {
    if let Some(pid) = own_process(name) {
        return Some(pid);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    runtime.block_on(async {
        let found = match of_server().await {
            Some(found) => found,
            None => alone().await?,
        };
        let pid = choose(name, &found)?;
        i32::try_from(pid).ok()
    })
}

/// The first process of a container of this user's `agent run`.
pub fn own_process(name: &str) -> Option<i32> {
    match Store::of_user().read(name).ok()?.status {
        Status::Running { pid } => Some(pid),
        Status::Creating | Status::Exited { .. } => None,
    }
}

/// Containers with their first processes.
pub type Found = Vec<(Container, u32)>;

/// Of these the ones that run.
pub fn running(states: Vec<ContainerState>) -> Found {
    let running = states.into_iter().filter(|it| it.running);
    running
        .filter_map(|it| Some((it.container, it.pid?)))
        .collect()
}

/// A container that runs, by its name, id or the beginning of its id: of `agent run`, or of any engine; and its first
/// process.
///
/// # Errors
/// Neither a server can be asked, nor this process look.
pub async fn find(
    name: &str,
    socket: &Path,
    engine: &EngineArgs,
) -> anyhow::Result<Option<(Container, u32)>> {
    let found = match client::fetch::<Vec<ContainerState>>(socket, "/v1/containers").await {
        Ok(states) => running(states),
        Err(nobody) if nobody.is_no_server() => {
            super::need_privileges("verify --container without a server")?;
            super::log_to_stderr("warn");
            running_in(&engine.look().await?)
        }
        Err(error) => return Err(error.into()),
    };
    let pid = choose(name, &found);
    Ok(found.into_iter().find(|(_, first)| Some(*first) == pid))
}

fn running_in(look: &Look) -> Found {
    let running = look.registry.containers().filter(|it| it.life.running());
    running
        .filter_map(|it| Some(((*it.container).clone(), it.life.init()?.pid)))
        .collect()
}

async fn of_server() -> Option<Found> {
    let path = "/v1/containers";
    let states: Vec<ContainerState> = client::fetch_trusted(Path::new(socket::DEFAULT), path)
        .await
        .ok()?;
    Some(running(states))
}

/// Looks in this process.
async fn alone() -> Option<Found> {
    Some(running_in(&EngineArgs::default().look().await.ok()?))
}

/// A name says which, an id, or the beginning of one that no other has.
pub fn choose(name: &str, found: &Found) -> Option<u32> {
    exact(name, found).or_else(|| begun(name, found))
}

/// The first process of the container with this name or id.
pub fn exact(name: &str, found: &Found) -> Option<u32> {
    let mut exact = found
        .iter()
        .filter(|(it, _)| it.name == name || it.id == name);
    exact.next().map(|(_, pid)| *pid)
}

fn begun(name: &str, found: &Found) -> Option<u32> {
    if name.len() < SHORTEST_ID {
        return None;
    }
    let mut begun = found.iter().filter(|(it, _)| it.id.starts_with(name));
    let (_, pid) = begun.next()?;
    begun.next().is_none().then_some(*pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::record::ContainerKind;

    #[test]
    fn a_name_is_more_than_the_beginning_of_an_id() {
        let container = |id: &str, name: &str| Container {
            kind: ContainerKind::Container,
            id: id.to_owned(),
            name: name.to_owned(),
            runtime: "docker".to_owned(),
            image: String::new(),
            cgroup: String::new(),
        };
        let found = vec![
            (container("abcdef", "web"), 1),
            (container("abcd00", "abcde"), 2),
            (container("ffff", "db"), 3),
        ];
        for (name, pid) in [
            ("web", Some(1)),
            ("abcdef", Some(1)),
            ("abcde", Some(2)),
            ("abcd", None),
            ("abcd0", Some(2)),
            ("fff", None),
            ("ffff", Some(3)),
            ("", None),
        ] {
            assert_eq!(choose(name, &found), pid, "{name}");
        }
    }
}
