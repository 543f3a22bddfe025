//! Where a task is: what the paths of its cgroups mean, and which of them decides.

use std::sync::Arc;

use agent_ebpf::{Namespace, NamespaceInodes, Task};
use agent_model::container::{Container, ContainerKind};
use agent_model::labels::ContainerLabels;
use agent_model::names;

use super::claim::{Claim, readable};
use super::path::{PathIdentity, identify};

/// The name of an unknown thing, such as an image that no engine has named.
pub const UNKNOWN: &str = "unknown";

/// How much a cgroup says about where its tasks are. Of a task's cgroups the one with the greatest rank decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A cgroup that is none of the others.
    Cgroup,
    /// A scope or slice: a login session, or a group of units.
    Group,
    /// A systemd service.
    Service,
    /// A container's cgroup, or one below it.
    Container,
}

/// What a path means.
#[derive(Debug)]
pub struct PathMeaning {
    /// The container, unit or cgroup. A container whose claim is not confirmed has its path as its name.
    pub container: Container,
    /// The claim, if the rank is that of a container.
    pub claim: Option<Claim>,
    /// Whether the path is that of the container or unit itself, not of a cgroup below.
    pub own: bool,
    /// How much the path says about its tasks.
    pub rank: Rank,
}

/// Where a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskLocation {
    /// In no cgroup but the root, and in no sandbox.
    Host,
    /// In a cgroup that the agent does not know.
    Unknown,
    /// In a container, a unit, a sandbox or another cgroup.
    In(Arc<Container>),
}

impl TaskLocation {
    /// Whether a task here may escape: only containers can be escaped from. The kernel side also checks services and other
    /// cgroups that have an init process; their tasks may use the host's namespaces. A task in an unknown cgroup may be in
    /// a container.
    pub fn can_escape(&self) -> bool {
        match self {
            Self::In(container) => container.kind == ContainerKind::Container,
            Self::Unknown => true,
            Self::Host => false,
        }
    }

    /// The container, unit, sandbox or cgroup that the task is in; `None` on the host and where it is unknown.
    pub fn container(self) -> Option<Arc<Container>> {
        match self {
            Self::In(container) => Some(container),
            Self::Host | Self::Unknown => None,
        }
    }
}

/// What `path` means. The caller handles the root, which is the host.
pub fn of(path: &str) -> PathMeaning {
    let path = readable(path);
    let place = identify(path);
    let own = place.cgroup == path;
    let cgroup = place.cgroup.to_owned();
    let (rank, claim, container) = match place.identity {
        PathIdentity::Container {
            runtime,
            id,
            pod: _,
        } => {
            let container = Container {
                runtime: runtime.name().to_owned(),
                image: UNKNOWN.to_owned(),
                confirmed: Some(false),
                ..plain(ContainerKind::Container, &cgroup, &cgroup)
            };
            let claim = Claim {
                runtime,
                id,
                cgroup,
            };
            (Rank::Container, Some(claim), container)
        }
        PathIdentity::Unit { name } => {
            let service = name.ends_with(".service");
            let rank = if service { Rank::Service } else { Rank::Group };
            (rank, None, plain(ContainerKind::Unit, &name, &cgroup))
        }
        PathIdentity::Cgroup | PathIdentity::Root => {
            let container = plain(ContainerKind::Cgroup, &cgroup, &cgroup);
            (Rank::Cgroup, None, container)
        }
    };
    PathMeaning {
        container,
        claim,
        own,
        rank,
    }
}

fn plain(kind: ContainerKind, name: &str, cgroup: &str) -> Container {
    Container {
        kind,
        id: cgroup.to_owned(),
        name: name.to_owned(),
        runtime: String::new(),
        image: String::new(),
        confirmed: None,
        cgroup: cgroup.to_owned(),
        pod: None,
        labels: ContainerLabels::default(),
    }
}

/// The short form of an id: the first 12 of 64 hexadecimal digits, as docker shows it. Any other id is returned whole.
pub fn short(id: &str) -> &str {
    let digits = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { &id[..12] } else { id }
}

/// Decides where a task is. `best` is its cgroup with the greatest rank; `unknown` is whether the agent does not know
/// one of its cgroups.
///
/// A task in the cgroup of a container or service belongs to it. Any other task with its own pid or mount namespace is in
/// a sandbox, even one in a login session's scope.
pub(crate) fn decide(
    best: Option<(Rank, &Arc<Container>)>,
    unknown: bool,
    task: &Task,
    host: &NamespaceInodes,
) -> TaskLocation {
    match best {
        Some((Rank::Container | Rank::Service, container)) => {
            TaskLocation::In(Arc::clone(container))
        }
        // The unknown cgroup may be a container's.
        _ if unknown => TaskLocation::Unknown,
        other => match (
            sandbox(task, host, other.map(|(_, container)| &**container)),
            other,
        ) {
            (Some(sandbox), _) => TaskLocation::In(Arc::new(sandbox)),
            (None, Some((_, container))) => TaskLocation::In(Arc::clone(container)),
            (None, None) => TaskLocation::Host,
        },
    }
}

/// The pid of kthreadd, the parent of the kernel's threads.
const KTHREADD: u32 = 2;

/// The sandbox of a task outside of containers: its outermost pid namespace below the host's, else its mount namespace. A
/// task with a mount namespace of its own that made a pid namespace for its children is in their sandbox, as unshare(1) is.
fn sandbox(task: &Task, host: &NamespaceInodes, around: Option<&Container>) -> Option<Container> {
    // A namespace that the task has, and that the host has not.
    let own = |namespace: Namespace| {
        let inode = task.namespaces[namespace as usize];
        Some(inode).filter(|inode| ![0, host[namespace as usize]].contains(inode))
    };
    let (kind, inode) = match (task.outer_pid_namespace, own(Namespace::Mnt)) {
        // kdevtmpfs, a thread of the kernel's, has mounts of its own.
        _ if task.ppid == KTHREADD => return None,
        (0, None) => return None,
        (0, Some(mnt)) => match own(Namespace::PidForChildren) {
            Some(pid) => (Namespace::Pid, pid),
            None => (Namespace::Mnt, mnt),
        },
        (pid, _) => (Namespace::Pid, pid),
    };
    Some(Container {
        kind: ContainerKind::Sandbox,
        name: names::sandbox(inode),
        id: format!("{}:[{inode}]", kind.name()),
        runtime: String::new(),
        image: String::new(),
        confirmed: None,
        cgroup: around.map_or("/", |around| &around.cgroup).to_owned(),
        pod: None,
        labels: ContainerLabels::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9adc5277a29e0d474e8b1b1f44dd6af50352684d11bcb255637520a05f975b59";
    const HOST: NamespaceInodes = [1; agent_ebpf::NAMESPACES];

    fn task(outer_pid_namespace: u32, mnt: u32) -> Task {
        let mut task = Task {
            outer_pid_namespace,
            namespaces: HOST,
            ..Task::EMPTY
        };
        task.namespaces[Namespace::Mnt as usize] = mnt;
        task
    }

    #[test]
    fn no_name_leads_out_of_a_container() {
        for below in [
            "a",
            "system.slice/x.service",
            &format!("docker/{}", "a".repeat(64)),
        ] {
            for path in [
                format!("/docker/{ID}/{below}"),
                format!("//docker/{ID}/{below}\\xff"),
            ] {
                let place = of(&path);
                assert_eq!((place.rank, place.own), (Rank::Container, false), "{path}");
                assert_eq!(place.claim.unwrap().id, ID);
            }
        }
    }

    #[test]
    fn a_claim_goes_by_its_path() {
        for (path, id) in [(format!("/docker/{ID}"), ID), ("/agent/web".into(), "web")] {
            let place = of(&path);
            assert!(place.own);
            assert_eq!((&place.container.name, &place.container.id), (&path, &path));
            assert_eq!(place.container.image, UNKNOWN);
            assert_eq!(place.container.confirmed, Some(false));
            assert_eq!(place.claim.unwrap().id, id);
        }
        assert_eq!((short(ID), short("web")), (&ID[..12], "web"));
        assert!(of("/a.service").claim.is_none());
    }

    #[test]
    fn what_is_not_known_is_no_guess() {
        let group = Arc::new(of("/user.slice").container);
        let container = Arc::new(of(&format!("/docker/{ID}")).container);
        let (inside, outside) = (task(7, 8), task(0, 1));
        let place = |best, unknown, task| decide(best, unknown, task, &HOST);
        assert_eq!(place(None, false, &outside), TaskLocation::Host);
        assert_eq!(place(None, true, &outside), TaskLocation::Unknown);
        assert_eq!(
            place(Some((Rank::Group, &group)), true, &outside),
            TaskLocation::Unknown
        );
        let known = Some((Rank::Container, &container));
        assert_eq!(
            place(known, true, &inside),
            TaskLocation::In(container.clone())
        );
    }

    #[test]
    fn own_namespaces_make_a_sandbox_but_in_a_service() {
        let group = Arc::new(of("/user.slice/session-1.scope").container);
        let service = Arc::new(of("/system.slice/a.service").container);
        let name = |best, task| match decide(best, false, &task, &HOST) {
            TaskLocation::In(container) => container.name.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(name(Some((Rank::Group, &group)), task(7, 8)), "sandbox-7");
        assert_eq!(name(None, task(0, 8)), "sandbox-8");
        assert_eq!(
            name(Some((Rank::Service, &service)), task(7, 8)),
            "a.service"
        );
        assert_eq!(
            name(Some((Rank::Group, &group)), task(0, 1)),
            "session-1.scope"
        );
    }

    #[test]
    fn a_sandbox_is_one_whichever_of_its_tasks_is_asked() {
        let id = |task: Task| match decide(None, false, &task, &HOST) {
            TaskLocation::In(container) => container.id.clone(),
            other => format!("{other:?}"),
        };
        let mut unshare = task(0, 8);
        unshare.namespaces[Namespace::PidForChildren as usize] = 7;
        assert_eq!(id(unshare), "pid:[7]");
        assert_eq!(id(task(7, 8)), "pid:[7]");
        assert_eq!(id(task(7, 1)), "pid:[7]");
        assert_eq!(id(task(0, 8)), "mnt:[8]");
        // One that makes children in a container's namespace, and is not in a namespace of its own.
        let mut nsenter = task(0, 1);
        nsenter.namespaces[Namespace::PidForChildren as usize] = 7;
        assert_eq!(id(nsenter), "Host");
        let kernel = Task {
            ppid: KTHREADD,
            ..task(0, 8)
        };
        assert_eq!(id(kernel), "Host");
    }
}
