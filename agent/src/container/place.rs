//! What a cgroup's path says about the tasks in it, and what decides where a task is.

use std::sync::Arc;

use agent_ebpf::{Namespace, Namespaces, Task};

use super::path::{Identity, identify};
use crate::watch::record::{Container, ContainerKind};

/// What is known for what is not known.
pub const UNKNOWN: &str = "unknown";

/// How much a cgroup says about where a task is; more is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Cgroup,
    /// A scope or slice: a login session, or a group of units.
    Group,
    /// A systemd service.
    Service,
    Container,
}

/// What a path says.
#[derive(Debug)]
pub struct Place {
    pub container: Container,
    /// Whether the path is that of the container or unit itself, not of a cgroup below.
    pub own: bool,
    pub rank: Rank,
}

/// Where a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    Host,
    /// In a cgroup that the agent does not know.
    Unknown,
    In(Arc<Container>),
}

impl Where {
    pub fn container(&self) -> Option<Container> {
        match self {
            Self::In(container) => Some(Container::clone(container)),
            Self::Host | Self::Unknown => None,
        }
    }
}

/// What `path`, a cgroup's other than the root, says.
pub fn of(path: &str) -> Place {
    let place = identify(path);
    let own = place.cgroup == path;
    let cgroup = place.cgroup.to_owned();
    let plain = |kind, name: &str| Container {
        kind,
        id: cgroup.clone(),
        name: name.to_owned(),
        runtime: String::new(),
        image: String::new(),
        cgroup: cgroup.clone(),
    };
    let (rank, container) = match place.identity {
        Identity::Container { runtime, id, pod: _ } => {
            let container = Container {
                kind: ContainerKind::Container,
                name: short(&id).to_owned(),
                id,
                runtime: runtime.name().to_owned(),
                image: UNKNOWN.to_owned(),
                cgroup: cgroup.clone(),
            };
            (Rank::Container, container)
        }
        Identity::Unit { name } => {
            let service = name.ends_with(".service");
            let rank = if service { Rank::Service } else { Rank::Group };
            (rank, plain(ContainerKind::Unit, &name))
        }
        Identity::Cgroup | Identity::Root => {
            (Rank::Cgroup, plain(ContainerKind::Cgroup, &cgroup))
        }
    };
    Place { container, own, rank }
}

/// An id of 64 hexadecimal digits goes by its first twelve, as docker shows it; others are names.
fn short(id: &str) -> &str {
    let digits = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { &id[..12] } else { id }
}

/// Where a task is: `best` is the cgroup of it that says most, and `unknown` whether there is one
/// that says nothing.
///
/// A container or service is what its cgroup says. Any other task that has a pid or mount
/// namespace of its own is in a sandbox: a login session's scope says less than that.
pub fn decide(
    best: Option<(Rank, &Arc<Container>)>,
    unknown: bool,
    task: &Task,
    host: &Namespaces,
) -> Where {
    match best {
        Some((Rank::Container | Rank::Service, container)) => Where::In(Arc::clone(container)),
        // What is not known may be a container's.
        _ if unknown => Where::Unknown,
        other => match (sandbox(task, host, other.map(|(_, container)| &**container)), other) {
            (Some(sandbox), _) => Where::In(Arc::new(sandbox)),
            (None, Some((_, container))) => Where::In(Arc::clone(container)),
            (None, None) => Where::Host,
        },
    }
}

/// The sandbox of a task outside of containers: that of its outermost pid namespace below the
/// host's, else of its mount namespace.
fn sandbox(task: &Task, host: &Namespaces, around: Option<&Container>) -> Option<Container> {
    let mnt = task.namespaces[Namespace::Mnt as usize];
    let id = if task.outer_pid_namespace != 0 {
        format!("pid:[{}]", task.outer_pid_namespace)
    } else if mnt != 0 && mnt != host[Namespace::Mnt as usize] {
        format!("mnt:[{mnt}]")
    } else {
        return None;
    };
    Some(Container {
        kind: ContainerKind::Sandbox,
        name: id.clone(),
        id,
        runtime: String::new(),
        image: String::new(),
        cgroup: around.map_or("/", |around| &around.cgroup).to_owned(),
    })
}
