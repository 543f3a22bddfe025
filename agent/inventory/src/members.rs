//! The processes of units and of sandboxes, from the list of all tasks.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use agent_ebpf::Task;
use agent_host::path::with_parents;
use agent_model::container::{Container, ContainerKind};
use agent_registry::location::TaskLocation;
use agent_registry::registry::{Registry, keys};

/// The processes of one unit or sandbox.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MemberTasks<'a> {
    pub(crate) count: u32,
    /// The one that started first.
    pub(crate) eldest: Option<&'a Task>,
}

impl<'a> MemberTasks<'a> {
    fn add(&mut self, task: &'a Task) {
        self.count += 1;
        let age = |task: &Task| (task.start_time, task.pid);
        if self.eldest.is_none_or(|eldest| age(task) < age(eldest)) {
            self.eldest = Some(task);
        }
    }
}

/// The processes in the cgroup of each unit and in those below it, by the path of the unit's cgroup.
pub(crate) fn of_units<'a>(
    registry: &Registry,
    tasks: &'a [Task],
) -> HashMap<String, MemberTasks<'a>> {
    let units = registry.units().map(|unit| unit.container.cgroup.clone());
    let mut members: HashMap<String, MemberTasks<'_>> =
        units.map(|unit| (unit, MemberTasks::default())).collect();
    for task in tasks {
        let paths = keys(task).filter_map(|key| registry.path(key));
        // In several hierarchies a process is in the same unit.
        let above: BTreeSet<Cow<'_, str>> = paths.flat_map(with_parents).collect();
        for path in above {
            if let Some(members) = members.get_mut(&*path) {
                members.add(task);
            }
        }
    }
    members
}

/// All sandboxes with their processes, in the order of their ids.
pub(crate) fn of_sandboxes<'a>(
    registry: &Registry,
    tasks: &'a [Task],
) -> Vec<(Arc<Container>, MemberTasks<'a>)> {
    let mut found: BTreeMap<String, (Arc<Container>, MemberTasks<'_>)> = BTreeMap::new();
    for task in tasks {
        if let TaskLocation::In(sandbox) = registry.locate(task)
            && sandbox.kind == ContainerKind::Sandbox
        {
            let of_it = found.entry(sandbox.id.clone());
            let (_, members) = of_it.or_insert_with(|| (sandbox, MemberTasks::default()));
            members.add(task);
        }
    }
    found.into_values().collect()
}
