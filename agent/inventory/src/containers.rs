//! The state of each container, unit and sandbox, from the registry and from the files of its cgroups.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, SystemTime};

use agent_ebpf::{CgroupKey, Counts, Task};
use agent_engines::witness::own;
use agent_host::cgroup::Directory;
use agent_host::hierarchy::{Hierarchies, Mounted};
use agent_host::membership::Membership;
use agent_host::path::with_parents;
use agent_limits::limits::Limits;
use agent_model::clock::{Clock, Moment};
use agent_model::container::{Container, ContainerKind, Namespaces};
use agent_model::limit::{Held, Intent, Kind, Limit, Link};
use agent_registry::location::TaskLocation;
use agent_registry::path::Runtime;
use agent_registry::registry::{Cgroup, Registry};
use serde::{Deserialize, Serialize};

use super::container_condition::ContainerCondition;
use super::idle;
use super::members::{self, MemberTasks};

/// The state of one container, unit or sandbox now: an element of the list that `/v1/containers` returns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerState {
    /// The container's name, id, engine, image and cgroup.
    #[serde(flatten)]
    pub container: Container,
    /// The state of the container; `unknown` where an older server does not send it.
    #[serde(default)]
    pub state: ContainerCondition,
    /// Whether the container has tasks.
    pub running: bool,
    /// The time when the container's cgroup was removed, in RFC 3339. Null while the cgroup exists, and where the agent
    /// did not see the removal.
    pub removed: Option<String>,
    /// The pid of the init process in the host's pid namespace; null where it is not known. Of a unit or sandbox, the
    /// process that started first of those that there are.
    pub pid: Option<u32>,
    /// The time when that process started, in RFC 3339; null where it is not known.
    pub started: Option<Moment>,
    /// The number of processes in the container's cgroup and the cgroups below it.
    pub processes: u32,
    /// The memory in use, with the page cache. Null, like the next three fields, where the kernel does not account
    /// memory.
    pub memory_usage_bytes: Option<u64>,
    /// The memory in use, without the inactive part of the page cache.
    pub memory_working_set_bytes: Option<u64>,
    /// The memory limit of the container's own cgroup; null where it has none.
    pub memory_limit_bytes: Option<u64>,
    /// The tightest memory limit of the container's cgroup and its ancestors; null where none of them has one.
    pub memory_effective_limit_bytes: Option<u64>,
    /// The CPU time that the container has used; null where it cannot be read.
    pub cpu_usage_seconds: Option<f64>,
    /// The use of CPU time over the last interval, in percent of one CPU; null where it was not measured.
    pub cpu_percent: Option<f64>,
    /// The number of processes in the container's cgroup and the cgroups below it that the OOM killer killed; null where
    /// the container ended before the agent started.
    pub oom_kills: Option<u64>,
    /// The namespaces of the init process; null where it is not known.
    pub namespaces: Option<Namespaces>,
    /// The intended limits and who set them; absent if they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended: Option<Intent>,
}

impl ContainerState {
    /// A container that does not run, of which no more is known.
    pub(crate) fn new(container: Container, state: ContainerCondition) -> Self {
        Self {
            container,
            state,
            running: false,
            removed: None,
            pid: None,
            started: None,
            processes: 0,
            memory_usage_bytes: None,
            memory_working_set_bytes: None,
            memory_limit_bytes: None,
            memory_effective_limit_bytes: None,
            cpu_usage_seconds: None,
            cpu_percent: None,
            oom_kills: None,
            namespaces: None,
            intended: None,
        }
    }

    /// Adds what the processes of a unit or sandbox show.
    fn with(self, members: MemberTasks<'_>, clock: Clock) -> Self {
        let eldest = members.eldest;
        Self {
            running: members.count > 0,
            pid: eldest.map(|it| it.pid),
            started: eldest.map(|it| clock.moment(it.start_time)),
            processes: members.count,
            ..self
        }
    }
}

/// A container whose files have not been read yet. [`UnreadContainer::read`] reads them without the registry's lock.
#[derive(Debug)]
pub struct UnreadContainer {
    state: ContainerState,
    user: u32,
    membership: Membership,
    /// The directories in the memory hierarchy of the container's cgroup and the cgroups below it.
    kills: Vec<Directory>,
}

/// Which containers to list. This is the query of `GET /v1/containers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerQuery {
    /// Also containers that do not run and have no cgroup: those that engines have, those that `agent run` keeps, and
    /// the removed ones that the registry remembers.
    pub removed: bool,
    /// Also units of systemd that have a cgroup.
    pub units: bool,
    /// Also sandboxes.
    pub sandboxes: bool,
}

impl ContainerQuery {
    /// Formats this as the query of a URL.
    pub fn query(self) -> String {
        let parameters = [
            ("removed", self.removed),
            ("units", self.units),
            ("sandboxes", self.sandboxes),
        ];
        let given = parameters.iter().filter(|(_, is_wanted)| *is_wanted);
        let given: Vec<String> = given.map(|(name, _)| format!("{name}=true")).collect();
        given.join("&")
    }
}

/// Returns all containers, and the units and sandboxes that `wanted` asks for, in the order of their cgroups' paths.
///
/// `tasks` are all tasks of the host. `counts` are the counts of the BPF programs, where these run.
pub fn find(
    registry: &Registry,
    hierarchies: &Hierarchies,
    tasks: &[Task],
    counts: Option<&HashMap<CgroupKey, Counts>>,
    wanted: ContainerQuery,
) -> Vec<UnreadContainer> {
    let processes = processes(registry, tasks);
    let clock = Clock::now();
    let containers = registry.all().filter(|cgroup| cgroup.is_container());
    let listed = containers.filter(|cgroup| wanted.removed || cgroup.gone.is_none());
    let unread = |cgroup: &Cgroup, state: ContainerState| {
        let mut unread = UnreadContainer {
            state,
            user: cgroup.user(),
            membership: membership(cgroup),
            kills: Vec::new(),
        };
        unread.add_kills(cgroup, hierarchies, counts);
        unread
    };
    let listed = listed.map(|cgroup| unread(cgroup, state(registry, cgroup, &processes, clock)));
    let mut found: Vec<UnreadContainer> = listed.collect();
    if wanted.removed {
        found.extend(idle::of_engines(registry).map(UnreadContainer::of_nothing));
    }
    if wanted.units {
        let members = members::of_units(registry, tasks);
        let units = registry.units();
        found.extend(units.map(|unit| unread(unit, state_of_unit(unit, &members, clock))));
    }
    found.sort_by(|a, b| order(&a.state).cmp(&order(&b.state)));
    // Several containers may have had the same path. The first in this order, which is the one that exists, gets the
    // cgroups below the path.
    let mut by_cgroup: HashMap<String, &mut UnreadContainer> = HashMap::new();
    for unread in found.iter_mut().rev() {
        by_cgroup.insert(unread.state.container.cgroup.clone(), unread);
    }
    for cgroup in registry.all() {
        for path in above(cgroup, wanted.units) {
            if let Some(unread) = by_cgroup.get_mut(&*path) {
                unread.add_kills(cgroup, hierarchies, counts);
            }
        }
    }
    if wanted.sandboxes {
        let sandboxes = members::of_sandboxes(registry, tasks).into_iter();
        let states = sandboxes.map(|(sandbox, members)| state_of_sandbox(&sandbox, members, clock));
        found.extend(states.map(UnreadContainer::of_nothing));
    }
    found
}

/// Returns the cgroups whose containers and units the cgroup is below.
fn above(cgroup: &Cgroup, units: bool) -> BTreeSet<Cow<'_, str>> {
    let own = (!cgroup.own).then_some(Cow::Borrowed(&*cgroup.container.cgroup));
    let path = cgroup.directories.first().filter(|_| units);
    let parents = path
        .into_iter()
        .flat_map(|it| with_parents(&it.path).skip(1));
    own.into_iter().chain(parents).collect()
}

fn order(state: &ContainerState) -> (&str, &Option<String>) {
    (&state.container.cgroup, &state.removed)
}

/// Counts the processes in each container, by the path of the container's cgroup.
fn processes(registry: &Registry, tasks: &[Task]) -> HashMap<String, u32> {
    let mut processes: HashMap<String, u32> = HashMap::new();
    for task in tasks {
        if let TaskLocation::In(container) = registry.locate(task)
            && container.kind == ContainerKind::Container
        {
            *processes.entry(container.cgroup.clone()).or_default() += 1;
        }
    }
    processes
}

/// Returns the condition of a container, as far as the registry knows it.
fn condition(registry: &Registry, cgroup: &Cgroup) -> ContainerCondition {
    if cgroup.gone.is_none() {
        return if cgroup.life.running() {
            ContainerCondition::Running
        } else {
            ContainerCondition::Stopped
        };
    }
    match registry.engine_has(&cgroup.container.id) {
        Some(true) => ContainerCondition::Exited,
        Some(false) => ContainerCondition::Removed,
        None => ContainerCondition::Gone,
    }
}

fn state(
    registry: &Registry,
    cgroup: &Cgroup,
    processes: &HashMap<String, u32>,
    clock: Clock,
) -> ContainerState {
    let init = cgroup.life.init();
    let container = Container::clone(&cgroup.container);
    let processes = if cgroup.gone.is_none() {
        processes.get(&container.cgroup).copied()
    } else {
        None
    };
    ContainerState {
        running: cgroup.life.running(),
        removed: cgroup.gone.map(time_text),
        pid: init.map(|init| init.pid),
        started: init
            .map(|init| init.start_time)
            .or(cgroup.life.started())
            .map(|time| clock.moment(time)),
        processes: processes.unwrap_or_default(),
        oom_kills: Some(0),
        namespaces: init.map(|init| Namespaces::from(&init.namespaces)),
        intended: cgroup.intended.as_deref().cloned(),
        ..ContainerState::new(container, condition(registry, cgroup))
    }
}

/// Returns the state of a unit.
fn state_of_unit(
    cgroup: &Cgroup,
    members: &HashMap<String, MemberTasks<'_>>,
    clock: Clock,
) -> ContainerState {
    let container = Container::clone(&cgroup.container);
    let members = members.get(&container.cgroup).copied().unwrap_or_default();
    let condition = match members.count {
        0 => ContainerCondition::Stopped,
        _ => ContainerCondition::Running,
    };
    ContainerState {
        oom_kills: Some(0),
        intended: cgroup.intended.as_deref().cloned(),
        ..ContainerState::new(container, condition).with(members, clock)
    }
}

/// Returns the state of a sandbox. No cgroup is its own, so its use of resources is not known.
fn state_of_sandbox(sandbox: &Container, members: MemberTasks<'_>, clock: Clock) -> ContainerState {
    let state = ContainerState::new(sandbox.clone(), ContainerCondition::Running);
    let namespaces = members.eldest.map(|it| Namespaces::from(&it.namespaces));
    ContainerState {
        namespaces,
        ..state.with(members, clock)
    }
}

fn time_text(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

/// Returns the directories of a cgroup that exist now.
fn membership(cgroup: &Cgroup) -> Membership {
    let living = cgroup.directories.iter().filter(|it| !it.gone);
    living
        .map(|it| (it.key.hierarchy, it.path.as_ref().to_owned()))
        .collect()
}

fn directory(
    membership: &Membership,
    hierarchies: &Hierarchies,
    mounted: Option<&Mounted>,
) -> Option<Directory> {
    let mounted = mounted?;
    hierarchies.directory(mounted, membership.path(mounted)?)
}

/// Returns a memory limit in bytes; `None` where the cgroup has no limit.
fn bytes(link: &Link) -> Option<u64> {
    match link.held {
        Held::Amount(Limit::Value(bytes)) => Some(bytes),
        _ => None,
    }
}

impl UnreadContainer {
    /// Makes an entry for a container that has no cgroup.
    fn of_nothing(state: ContainerState) -> Self {
        Self {
            state,
            user: 0,
            membership: [].into_iter().collect(),
            kills: Vec::new(),
        }
    }

    /// Adds the OOM kills in one cgroup of the container, because the kernel counts a kill in the victim's own cgroup.
    ///
    /// The files count all kills in cgroups that exist. `counts` include removed cgroups, but start with the process
    /// that counts.
    fn add_kills(
        &mut self,
        cgroup: &Cgroup,
        hierarchies: &Hierarchies,
        counts: Option<&HashMap<CgroupKey, Counts>>,
    ) {
        if let Some(counts) = counts {
            let kills = cgroup.counted(counts).oom_kills;
            self.state.oom_kills = self.state.oom_kills.map(|before| before + kills);
        }
        let memory = hierarchies.of_controller("memory");
        let membership = membership(cgroup);
        let directory = directory(&membership, hierarchies, memory);
        self.kills.extend(directory);
    }

    /// Reads the files. A value whose file does not exist or cannot be read stays null.
    pub fn read(self, hierarchies: &Hierarchies) -> ContainerState {
        let mut state = self.state;
        let directory = |mounted| directory(&self.membership, hierarchies, mounted);
        match state.state {
            ContainerCondition::Running => {
                let freezers = [hierarchies.of_controller("freezer"), hierarchies.by_id(0)];
                let mut there = freezers.into_iter().filter_map(directory);
                if there.any(|it| it.is_frozen().unwrap_or(false)) {
                    state.state = ContainerCondition::Paused;
                }
            }
            // The registry knows the owner of a confirmed cgroup only.
            ContainerCondition::Gone if is_own(&state.container) => {
                let kept = own::is_kept(Path::new("/"), &state.container.id, self.user);
                state.state = if kept {
                    ContainerCondition::Exited
                } else {
                    ContainerCondition::Removed
                };
            }
            _ => {}
        }
        let memory = directory(hierarchies.of_controller("memory"));
        if let Some(memory) = memory.and_then(|it| it.memory().ok()) {
            state.memory_usage_bytes = Some(memory.usage);
            state.memory_working_set_bytes = Some(memory.working_set);
        }
        let limits = Limits {
            hierarchies,
            membership: &self.membership,
        };
        if let Ok(chain) = limits.chain(Kind::Memory, None) {
            state.memory_limit_bytes = chain.own.as_ref().ok().and_then(bytes);
            state.memory_effective_limit_bytes = chain.effective().as_ref().and_then(bytes);
        }
        let cpu = directory(hierarchies.of_cpu_usage());
        let usage = cpu.and_then(|cpu| cpu.cpu_usage().ok());
        state.cpu_usage_seconds = usage.map(|usage| usage.as_secs_f64());
        let kills = self.kills.iter().filter_map(|it| it.oom_kills().ok()?);
        if let Some(kills) = kills.reduce(|sum, more| sum + more) {
            state.oom_kills = state.oom_kills.max(Some(kills));
        }
        state
    }
}

/// Tells whether `agent run` made the container, and its state confirms that.
fn is_own(container: &Container) -> bool {
    container.runtime == Runtime::Agent.name() && container.confirmed == Some(true)
}

/// Sets the CPU use of each container in `after`. `time` is the time between the reading of `before` and that of
/// `after`.
pub fn set_cpu_percent(after: &mut [ContainerState], before: &[ContainerState], time: Duration) {
    let key = |state: &ContainerState| (state.container.cgroup.clone(), state.container.id.clone());
    let before: HashMap<_, _> = before
        .iter()
        .map(|state| (key(state), state.cpu_usage_seconds))
        .collect();
    for state in after {
        let earlier = before.get(&key(state)).copied().flatten();
        let used = state
            .cpu_usage_seconds
            .zip(earlier)
            .map(|(now, earlier)| now - earlier);
        // A value below the earlier one is that of another cgroup with the same name.
        let used = used.filter(|used| *used >= 0.0);
        state.cpu_percent = used.map(|used| used / time.as_secs_f64() * 100.0);
    }
}

#[cfg(test)]
mod tests;
