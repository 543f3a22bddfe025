//! Namespaces: who is in each of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::path::Path;

use agent_ebpf::{Namespace, Task};
use agent_host::held::{Held, How};
use agent_host::namespace::Mounted;
use agent_host::{held, namespace};
use agent_model::container::ContainerKind;
use agent_model::names::comm;
use agent_model::names::is_named;
use agent_registry::location::TaskLocation;
use agent_registry::registry::Registry;
use serde::{Deserialize, Serialize};

use super::ContainerName;

/// A namespace now: one of `/v1/namespaces`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceState {
    /// The entry of `/proc/PID/ns`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The inode number.
    pub inode: u32,
    /// Whether it is the host's own.
    pub host: bool,
    /// How many processes are in it.
    pub processes: u32,
    /// Null where no process is in it.
    pub owner: Option<Eldest>,
    /// The containers that have processes in it, by name.
    pub containers: Vec<ContainerName>,
    /// Where it is mounted, which holds it when no process is in it any more.
    pub mounts: Vec<String>,
    /// Some of what else holds it, if no process's main thread is in it, or not that of the requested process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<NamespaceHolder>,
}

/// What holds a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceHolder {
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// What is not UTF-8 is replaced by U+FFFD; empty where it is not known.
    pub comm: String,
    /// `thread 12`, `descriptor 3`, `time_for_children`, `mount /run/lab`.
    pub by: String,
}

impl NamespaceState {
    /// Whether it was found because the process holds it, which is not in it itself.
    pub fn is_only_held_by(&self, pid: u32) -> bool {
        self.holders.iter().any(|it| it.pid == pid)
    }
}

/// How many holders of one namespace are listed.
const HOLDERS_AT_MOST: usize = 8;

/// The oldest of the processes in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eldest {
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// What is not UTF-8 is replaced by U+FFFD.
    pub comm: String,
    /// The real user id in the initial user namespace.
    pub uid: u32,
    /// Null where it is in none.
    pub container: Option<ContainerName>,
    /// The inode of the user namespace that owns the namespace in the kernel; null where it is not
    /// told.
    pub user_namespace: Option<u32>,
}

/// Which namespaces to show: also the query of `GET /v1/namespaces`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceQuery {
    /// Of this type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Those that a container has processes in, by its name, id, or the first 12 digits of the id.
    pub container: Option<String>,
    /// Those of a process: that it is in, or holds.
    pub pid: Option<NonZeroU32>,
}

/// A namespace, while the tasks in it are gone through.
struct NamespaceTasks {
    state: NamespaceState,
    /// Who has processes in it.
    containers: BTreeSet<ContainerName>,
    has_wanted_process: bool,
}

/// The namespaces that `tasks`, all that there are, are in, and those that are `mounted` or `held`, by type and inode.
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
        let container = container(registry, task);
        for namespace in own() {
            let inode = task.namespaces[namespace as usize];
            if inode == 0 {
                continue;
            }
            let here = found.entry((namespace.name(), inode));
            let here = here.or_insert_with(|| NamespaceTasks::new(registry, namespace, inode));
            here.add(task, container.as_ref());
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
            let container = task.and_then(|task| container(registry, task));
            let is_wanted = wanted.pid.is_some_and(|pid| pid.get() == held.pid);
            here.hold(held, task, container, is_wanted);
        }
    }
    let found = found.into_values();
    let found = found.filter(|it| wanted.pid.is_none_or(|pid| it.is_of(pid.get())));
    let states = found.map(|found| NamespaceState {
        containers: found.containers.into_iter().collect(),
        ..found.state
    });
    states.filter(|state| wanted.takes(state)).collect()
}

impl NamespaceTasks {
    /// A namespace without processes.
    fn new(registry: &Registry, namespace: Namespace, inode: u32) -> Self {
        Self {
            state: NamespaceState {
                kind: namespace.name().to_owned(),
                inode,
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

    /// Whether the process is in it, or holds it.
    fn is_of(&self, pid: u32) -> bool {
        self.has_wanted_process || self.state.is_only_held_by(pid)
    }

    /// Something holds it that is no main thread.
    fn hold(
        &mut self,
        held: &Held,
        task: Option<&Task>,
        container: Option<ContainerName>,
        wanted: bool,
    ) {
        // A mount that is seen here is in the copies of this mount namespace too.
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

    /// Counts a process that started after those before.
    fn add(&mut self, task: &Task, container: Option<&ContainerName>) {
        self.state.processes += 1;
        let owner = &mut self.state.owner;
        owner.get_or_insert_with(|| self::owner(task, container));
        if let Some(container) = container
            && !self.containers.contains(container)
        {
            self.containers.insert(container.clone());
        }
    }
}

/// Those of the ten that a process itself is in; in the others its children will be.
fn own() -> impl Iterator<Item = Namespace> {
    let all = Namespace::ALL.iter().copied();
    all.filter(|it| !matches!(it, Namespace::PidForChildren | Namespace::TimeForChildren))
}

fn container(registry: &Registry, task: &Task) -> Option<ContainerName> {
    match registry.locate(task) {
        TaskLocation::In(container) if container.kind == ContainerKind::Container => {
            Some(ContainerName::from(&*container))
        }
        _ => None,
    }
}

fn owner(task: &Task, container: Option<&ContainerName>) -> Eldest {
    Eldest {
        pid: task.pid,
        comm: comm(task),
        uid: task.uid,
        container: container.cloned(),
        user_namespace: None,
    }
}

/// Asks the kernel for each namespace's owner; that needs no lock.
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
    /// What processes hold besides: of all, or of the one that is wanted.
    pub fn held(&self, root: &Path) -> Vec<Held> {
        match self.pid {
            Some(pid) => held::by(root, pid.get()),
            None => held::all(root),
        }
    }

    /// The query that is read as this.
    pub fn query(&self) -> String {
        let pid = self.pid.map(|pid| pid.to_string());
        let parameters = [
            ("type", self.kind.as_ref()),
            ("container", self.container.as_ref()),
            ("pid", pid.as_ref()),
        ];
        let given = parameters
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(given)
            .finish()
    }

    fn takes(&self, state: &NamespaceState) -> bool {
        let is_kind = self.kind.as_ref().is_none_or(|kind| *kind == state.kind);
        let mut containers = state.containers.iter();
        let has_container = self
            .container
            .as_ref()
            .is_none_or(|wanted| containers.any(|it| is_named(&it.name, &it.id, wanted)));
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
            pid: get("pid").map(|pid| pid.parse().unwrap()),
        };
        assert_eq!(wanted.query(), query);
        let mounted = [
            ("net", 7, "/a"),
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
        // Of the two the one that started first, not the one with the lower number.
        assert_eq!(shared.owner.as_ref().map(|owner| owner.pid), Some(6));
        assert_eq!(shared.mounts, ["/a"]);
        assert_eq!((held.inode, held.processes, &held.owner), (9, 0, &None));
        assert_eq!(held.mounts, ["/b", "/c"]);
        // Eight types, of net three, and of uts two.
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
