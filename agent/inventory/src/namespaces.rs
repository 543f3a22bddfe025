//! The namespaces of the host: their processes, the containers, units and sandboxes of these, and what else holds them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::path::Path;

use agent_ebpf::{Namespace, Task};
use agent_host::held::{Held, How};
use agent_host::namespace::Mounted;
use agent_host::{held, namespace};
use agent_model::container::ContainerKind;
use agent_model::names::comm;
use agent_registry::location::TaskLocation;
use agent_registry::registry::Registry;
use serde::{Deserialize, Serialize};

use super::ContainerName;

/// The state of one namespace now: an element of the list that `/v1/namespaces` returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceState {
    /// The type, as the name of the entry in `/proc/PID/ns`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The inode number.
    pub inode: u32,
    /// The name that `ip netns` or docker gives a network namespace, by the file that it is mounted at; absent where it has
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is the host's namespace.
    pub host: bool,
    /// The number of processes in the namespace.
    pub processes: u32,
    /// The oldest process in the namespace; null where it has none.
    pub owner: Option<Eldest>,
    /// The containers and sandboxes that have processes in the namespace, in the order of their names. Of a namespace that
    /// is not the host's, the units, too, and in any case what the query names.
    pub containers: Vec<ContainerName>,
    /// The paths where the namespace is mounted. A mount holds a namespace even without processes.
    pub mounts: Vec<String>,
    /// Other holders, at most eight. The list is empty while the namespace has processes. The one exception is the
    /// process of a query by pid, if it holds the namespace without being in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<NamespaceHolder>,
}

/// What holds a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceHolder {
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// The name of the main thread; U+FFFD replaces what is not UTF-8. Empty where it is not known.
    pub comm: String,
    /// How the process holds it: `thread 12`, `descriptor 3`, `time_for_children`, `mount /run/lab`.
    pub by: String,
}

impl NamespaceState {
    /// Tells whether the process is a holder of the namespace without being in it.
    pub fn is_only_held_by(&self, pid: u32) -> bool {
        self.holders.iter().any(|it| it.pid == pid)
    }
}

/// The most holders of one namespace that are listed.
const HOLDERS_AT_MOST: usize = 8;

/// The oldest of the processes in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eldest {
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// The name of the main thread; U+FFFD replaces what is not UTF-8.
    pub comm: String,
    /// The real user id in the initial user namespace.
    pub uid: u32,
    /// The container, unit or sandbox that the process is in; null where it is in none.
    pub container: Option<ContainerName>,
    /// The inode of the user namespace that owns this namespace (ioctl_ns(2)); null where the kernel does not report
    /// it.
    pub user_namespace: Option<u32>,
}

/// Which namespaces to show. This is the query of `GET /v1/namespaces`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceQuery {
    /// Only namespaces of this type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Only namespaces with processes of this container, unit or sandbox, by its name, id, or the first 12 digits of the
    /// id.
    pub container: Option<String>,
    /// The path of the cgroup of the unit that the name means. Units elsewhere do not count then.
    pub unit: Option<String>,
    /// Only namespaces that this process is in or holds.
    pub pid: Option<NonZeroU32>,
}

/// A namespace, while [`find`] collects its tasks.
struct NamespaceTasks {
    state: NamespaceState,
    /// The containers that have processes in it.
    containers: BTreeSet<ContainerName>,
    has_wanted_process: bool,
}

/// Returns the namespaces that tasks are in, that are mounted, or that are held otherwise; in the order of type and
/// inode. `tasks` are all tasks of the host.
pub fn find(
    registry: &Registry,
    tasks: &[Task],
    mounted: &[Mounted],
    held: &[Held],
    wanted: &NamespaceQuery,
) -> Vec<NamespaceState> {
    let mut sorted: Vec<&Task> = tasks.iter().collect();
    sorted.sort_by_key(|task| (task.start_time, task.pid));
    let mut found: BTreeMap<(&str, u32), NamespaceTasks> = BTreeMap::new();
    for task in &sorted {
        let subject = subject(registry, task);
        for namespace in own() {
            let inode = task.namespaces[namespace as usize];
            if inode == 0 {
                continue;
            }
            let here = found.entry((namespace.name(), inode));
            let here = here.or_insert_with(|| NamespaceTasks::new(registry, namespace, inode));
            here.add(task, subject.as_ref(), wanted);
            here.has_wanted_process |= wanted.pid.is_some_and(|pid| pid.get() == task.pid);
        }
    }
    for mounted in mounted {
        if let Some(namespace) = own().find(|it| it.name() == mounted.kind) {
            let here = found.entry((namespace.name(), mounted.inode));
            let here =
                here.or_insert_with(|| NamespaceTasks::new(registry, namespace, mounted.inode));
            here.state.mounts.push(mounted.point.clone());
        }
    }
    let by_pid: HashMap<u32, &Task> = sorted.iter().map(|task| (task.pid, *task)).collect();
    for held in held {
        if let Some(namespace) = own().find(|it| it.name() == held.kind) {
            let here = found.entry((namespace.name(), held.inode));
            let here = here.or_insert_with(|| NamespaceTasks::new(registry, namespace, held.inode));
            let task = by_pid.get(&held.pid).copied();
            let subject = task.and_then(|task| subject(registry, task));
            let subject = subject.filter(|it| here.shows(it, wanted));
            let is_wanted = wanted.pid.is_some_and(|pid| pid.get() == held.pid);
            here.hold(held, task, subject, is_wanted);
        }
    }
    let found = found.into_values();
    let found = found.filter(|it| wanted.pid.is_none_or(|pid| it.is_of(pid.get())));
    let states = found.map(|found| NamespaceState {
        name: name(&found.state),
        containers: found.containers.into_iter().collect(),
        ..found.state
    });
    states.filter(|state| wanted.takes(state)).collect()
}

/// The directories in which the file that a network namespace is mounted at has its name: those of `ip netns`
/// (ip-netns(8)) and of docker.
const NAMED_IN: [&str; 4] = [
    "/run/netns/",
    "/var/run/netns/",
    "/run/docker/netns/",
    "/var/run/docker/netns/",
];

/// Returns the name of a network namespace.
fn name(state: &NamespaceState) -> Option<String> {
    let mut named = NAMED_IN.iter().flat_map(|directory| {
        let points = state.mounts.iter().filter(|_| state.kind == "net");
        points.filter_map(move |point| point.strip_prefix(directory))
    });
    named.next().map(str::to_owned)
}

impl NamespaceTasks {
    /// Makes a namespace without processes.
    fn new(registry: &Registry, namespace: Namespace, inode: u32) -> Self {
        Self {
            state: NamespaceState {
                kind: namespace.name().to_owned(),
                inode,
                name: None,
                host: registry.host()[namespace as usize] == inode,
                processes: 0,
                owner: None,
                containers: Vec::new(),
                mounts: Vec::new(),
                holders: Vec::new(),
            },
            containers: BTreeSet::new(),
            has_wanted_process: false,
        }
    }

    /// Tells whether the process is in the namespace, or holds it.
    fn is_of(&self, pid: u32) -> bool {
        self.has_wanted_process || self.state.is_only_held_by(pid)
    }

    /// Adds a holder that is not the main thread of a process in the namespace.
    fn hold(
        &mut self,
        held: &Held,
        task: Option<&Task>,
        container: Option<ContainerName>,
        wanted: bool,
    ) {
        // Copies of this mount namespace have the mounts that are listed here already.
        let is_seen = matches!(held.how, How::Mount(_)) && !self.state.mounts.is_empty();
        // The requested process is listed as a holder of each namespace that it is not in.
        let is_asked = wanted && !self.has_wanted_process;
        let is_used = self.state.processes > 0 && !is_asked;
        if is_used || is_seen || self.state.holders.len() >= HOLDERS_AT_MOST {
            return;
        }
        if matches!(held.how, How::Thread(_)) {
            self.containers.extend(container);
        }
        let by = match &held.how {
            How::Thread(thread) => format!("thread {thread}"),
            How::Descriptor(descriptor) => format!("descriptor {descriptor}"),
            How::Children(file) => (*file).to_owned(),
            How::Mount(point) => format!("mount {point}"),
        };
        self.state.holders.push(NamespaceHolder {
            pid: held.pid,
            comm: task.map(comm).unwrap_or_default(),
            by,
        });
    }

    /// Counts a process. The caller adds processes in the order in which they started, so the first one is the owner.
    fn add(&mut self, task: &Task, subject: Option<&ContainerName>, wanted: &NamespaceQuery) {
        self.state.processes += 1;
        let owner = &mut self.state.owner;
        owner.get_or_insert_with(|| self::owner(task, subject));
        if let Some(subject) = subject
            && self.shows(subject, wanted)
            && !self.containers.contains(subject)
        {
            self.containers.insert(subject.clone());
        }
    }

    /// Tells whether a user of the namespace is listed. The host stands for all units in its own namespaces.
    fn shows(&self, subject: &ContainerName, wanted: &NamespaceQuery) -> bool {
        let is_of_host = self.state.host && subject.kind == ContainerKind::Unit;
        !is_of_host || wanted.names(subject)
    }
}

/// Returns the eight types of namespace that a process itself is in. The other two are for its children.
fn own() -> impl Iterator<Item = Namespace> {
    let all = Namespace::ALL.iter().copied();
    all.filter(|it| !matches!(it, Namespace::PidForChildren | Namespace::TimeForChildren))
}

/// Returns the container, unit or sandbox that the task is in.
fn subject(registry: &Registry, task: &Task) -> Option<ContainerName> {
    match registry.locate(task) {
        TaskLocation::In(subject) if subject.kind != ContainerKind::Cgroup => {
            Some(ContainerName::from(&*subject))
        }
        _ => None,
    }
}

fn owner(task: &Task, subject: Option<&ContainerName>) -> Eldest {
    Eldest {
        pid: task.pid,
        comm: comm(task),
        uid: task.uid,
        container: subject.cloned(),
        user_namespace: None,
    }
}

/// Asks the kernel for the user namespace that owns each namespace. This needs no lock.
pub fn read_owners(mut states: Vec<NamespaceState>) -> Vec<NamespaceState> {
    for state in &mut states {
        if let Some(owner) = &mut state.owner {
            owner.user_namespace =
                namespace::owner(Path::new("/"), owner.pid, &state.kind, state.inode);
        }
    }
    states
}

impl NamespaceQuery {
    /// Returns what processes hold without being in it: that of the requested process, or else of all processes.
    pub fn held(&self, root: &Path) -> Vec<Held> {
        match self.pid {
            Some(pid) => held::by(root, pid.get()),
            None => held::all(root),
        }
    }

    /// Formats this as the query of a URL.
    pub fn query(&self) -> String {
        let pid = self.pid.map(|pid| pid.to_string());
        let parameters = [
            ("type", self.kind.as_ref()),
            ("container", self.container.as_ref()),
            ("unit", self.unit.as_ref()),
            ("pid", pid.as_ref()),
        ];
        let given = parameters
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(given)
            .finish()
    }

    /// Tells whether the query names this container, unit or sandbox.
    fn names(&self, subject: &ContainerName) -> bool {
        match (&self.unit, &self.container) {
            (Some(unit), _) if subject.kind == ContainerKind::Unit => subject.is_in(unit),
            (_, wanted) => wanted.as_ref().is_some_and(|it| subject.is_meant_by(it)),
        }
    }

    fn takes(&self, state: &NamespaceState) -> bool {
        let is_kind = self.kind.as_ref().is_none_or(|kind| *kind == state.kind);
        let mut containers = state.containers.iter();
        let has_container = self.container.is_none() || containers.any(|it| self.names(it));
        is_kind && has_container
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use agent_ebpf::CgroupKey;
    use agent_registry::claim::{Claim, Confirmation};

    use super::*;

    const HOST: agent_ebpf::NamespaceInodes = [1; agent_ebpf::NAMESPACES];

    fn task(pid: u32, net: u32, cgroup: u64) -> Task {
        let mut task = Task {
            pid,
            tid: pid,
            start_time: 1000 - u64::from(pid),
            namespaces: HOST,
            ..Task::EMPTY
        };
        task.namespaces[Namespace::Net as usize] = net;
        task.cgroups.ids[0] = cgroup;
        task.cgroups.hierarchies[0] = 4;
        task.cgroups.levels[0] = u32::from(cgroup != 1);
        task
    }

    fn found(query: &str) -> Vec<NamespaceState> {
        let mut registry = Registry::new(HOST);
        for (id, path) in [(20, "/agent/web"), (21, "/agent/db")] {
            let key = CgroupKey {
                id,
                hierarchy: 4,
                zero: 0,
            };
            registry.add(key, path, SystemTime::UNIX_EPOCH);
            let claim = Claim::of(path).unwrap();
            registry.confirm([Confirmation::of(&claim)]);
        }
        let tasks = [task(5, 7, 20), task(6, 7, 21), task(7, 1, 1)];
        let wanted: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let get = |name: &str| {
            wanted
                .iter()
                .find(|(it, _)| it == name)
                .map(|it| it.1.clone())
        };
        let wanted = NamespaceQuery {
            kind: get("type"),
            container: get("container"),
            unit: get("unit"),
            pid: get("pid").map(|pid| pid.parse().unwrap()),
        };
        assert_eq!(wanted.query(), query);
        let mounted = [
            ("net", 7, "/a"),
            ("net", 7, "/run/netns/lab"),
            ("net", 9, "/b"),
            ("net", 9, "/c"),
            ("x", 3, "/d"),
        ];
        let mounted = mounted.map(|(kind, inode, point)| Mounted {
            kind: kind.to_owned(),
            inode,
            point: point.to_owned(),
        });
        let held = [("net", 7, How::Descriptor(3)), ("uts", 9, How::Thread(55))];
        let held = held.map(|(kind, inode, how)| Held {
            kind: kind.to_owned(),
            inode,
            pid: 5,
            how,
        });
        find(&registry, &tasks, &mounted, &held, &wanted)
    }

    #[test]
    fn who_is_in_which() {
        let all = found("type=net");
        let [host, shared, held] = &all[..] else {
            panic!("{all:?}");
        };
        assert_eq!((host.inode, host.host, host.processes), (1, true, 1));
        assert_eq!((shared.inode, shared.host, shared.processes), (7, false, 2));
        let names: Vec<&str> = shared.containers.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["db", "web"]);
        // The owner is the process that started first, not the one with the lower pid.
        assert_eq!(shared.owner.as_ref().map(|owner| owner.pid), Some(6));
        assert_eq!(shared.mounts, ["/a", "/run/netns/lab"]);
        assert_eq!((shared.name.as_deref(), &held.name), (Some("lab"), &None));
        assert_eq!((held.inode, held.processes, &held.owner), (9, 0, &None));
        assert_eq!(held.mounts, ["/b", "/c"]);
        // Eight types; three namespaces of type net and two of type uts.
        assert_eq!(found("").len(), 11);
        assert!(all.iter().all(|it| it.holders.is_empty()));
        let uts = found("type=uts");
        let holders = uts.iter().flat_map(|it| &it.holders);
        let by: Vec<_> = holders.map(|it| (it.pid, &*it.by)).collect();
        assert_eq!(by, [(5, "thread 55")]);
    }

    #[test]
    fn what_is_wanted() {
        assert_eq!(found("container=web").len(), 9);
        assert_eq!(found("type=net&container=web")[0].inode, 7);
        assert_eq!(found("type=net&pid=7")[0].inode, 1);
        assert_eq!(found("container=x%26y"), []);
        assert_eq!(found("pid=99"), []);
    }
}
