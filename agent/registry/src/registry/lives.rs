//! What the registry learns of the lives of containers and units: whether they run, and how containers' init processes began
//! and ended.

use agent_ebpf::{CgroupKey, Task};

use super::{Cgroup, CgroupDirectory, Registry, keys};
use crate::life::{EmptyPeriod, LifeChange};
use crate::location::TaskLocation;

impl Registry {
    /// Notes that a cgroup became populated or empty at `time` (ns of CLOCK_BOOTTIME).
    pub fn set_populated(
        &mut self,
        key: CgroupKey,
        populated: bool,
        time: u64,
    ) -> Option<LifeChange> {
        let id = *self.by_key.get(&key)?;
        self.live(id, |cgroup| cgroup.set_populated(key, populated, time))?
    }

    /// The current empty period of the container whose own cgroup this is, returned once.
    pub fn take_empty(&mut self, key: CgroupKey) -> Option<EmptyPeriod> {
        let cgroup = self.cgroups.get_mut(self.by_key.get(&key)?)?;
        cgroup.life.take_empty().filter(|_| cgroup.has_life())
    }

    /// Ends the container's life, if it is still in this empty period.
    pub fn end_empty(&mut self, key: CgroupKey, spell: EmptyPeriod) -> Option<LifeChange> {
        let id = *self.by_key.get(&key)?;
        self.live(id, |cgroup| {
            let is_same = cgroup.life.is_empty(spell);
            is_same.then(|| cgroup.end()).flatten()
        })?
    }

    /// Notes that the task is the init process of its cgroup.
    pub fn set_init(&mut self, task: &Task) {
        self.live_of(task, |cgroup| cgroup.life.set_init(task));
    }

    /// Notes a task that a scan found. Returns whether it starts its container, whose init process it then is.
    pub fn set_found(&mut self, task: &Task) -> bool {
        self.set_units_found(task);
        let found = self.live_of(task, |cgroup| {
            // A task shows its cgroup in these hierarchies only.
            let hierarchies = keys(task).map(|key| key.hierarchy);
            for hierarchy in hierarchies {
                let directories = cgroup.directories.iter_mut();
                directories
                    .filter(|directory| directory.key.hierarchy == hierarchy)
                    .for_each(|directory| directory.populated = true);
            }
            let life = &mut cgroup.life;
            let started = life.set_populated(true, task.start_time, &cgroup.container);
            life.set_init(task);
            started.is_some()
        });
        found == Some(true)
    }

    /// Notes that the units in whose cgroups a task is, or below, have tasks.
    fn set_units_found(&mut self, task: &Task) {
        for key in keys(task) {
            let Some(path) = self.path(key).map(str::to_owned) else {
                continue;
            };
            let ends = path.match_indices('/').skip(1).map(|(at, _)| at);
            for end in ends.chain([path.len()]) {
                let Some(id) = self.by_path.get(&path[..end]).copied() else {
                    continue;
                };
                let unit = self.cgroups.get(&id).filter(|cgroup| cgroup.is_unit());
                let directory = unit.and_then(|it| it.directory_in(key.hierarchy));
                let empty = directory.filter(|it| !it.populated).map(|it| it.key);
                if let Some(own) = empty {
                    self.set_populated(own, true, task.start_time);
                }
            }
        }
    }

    /// Notes that the task has other namespaces.
    pub fn set_namespaces(&mut self, task: &Task) {
        self.live_of(task, |cgroup| cgroup.life.set_namespaces(task));
    }

    /// Notes that a process ended at `time` (ns of CLOCK_BOOTTIME) with this wait status (wait(2)).
    pub fn set_exit(&mut self, task: &Task, status: u32, time: u64) {
        self.live_of(task, |cgroup| cgroup.life.set_exit(task, status, time));
    }

    /// Notes that the OOM killer killed the task.
    pub fn set_oom_killed(&mut self, task: &Task) {
        self.live_of(task, |cgroup| cgroup.life.set_oom_killed(task));
    }

    /// Changes the life of the container whose own cgroup the task is in or below.
    fn live_of<T>(&mut self, task: &Task, change: impl FnOnce(&mut Cgroup) -> T) -> Option<T> {
        let container = match self.locate(task) {
            TaskLocation::In(container) => container,
            TaskLocation::Host | TaskLocation::Unknown => return None,
        };
        let id = *self.by_path.get(&container.cgroup)?;
        self.cgroups.get(&id).filter(|it| it.is_container())?;
        self.live(id, change)
    }
}

impl Cgroup {
    /// Ends the life of the container or unit; `None` if the cgroup is not its own, or it does not run.
    pub(super) fn end(&mut self) -> Option<LifeChange> {
        let has_life = self.has_life();
        let ended = self.life.end(&self.container);
        ended.filter(|_| has_life)
    }

    /// Its directory that exists in this hierarchy.
    fn directory_in(&self, hierarchy: u32) -> Option<&CgroupDirectory> {
        let mut living = self.directories.iter().filter(|it| !it.gone);
        living.find(|it| it.key.hierarchy == hierarchy)
    }

    fn set_populated(&mut self, key: CgroupKey, populated: bool, time: u64) -> Option<LifeChange> {
        let mut directories = self.directories.iter_mut();
        directories.find(|it| it.key == key)?.populated = populated;
        if !self.has_life() {
            return None;
        }
        let populated = self.directories.iter().any(|it| it.populated);
        self.life.set_populated(populated, time, &self.container)
    }
}
