//! What becomes of containers: whether something runs in them, and how their first processes began and ended.

use agent_ebpf::{CgroupKey, Task};

use super::{Cgroup, Registry, keys};
use crate::container::life::Change;
use crate::container::place::Where;

impl Registry {
    /// A cgroup became populated or empty at `time` (ns of CLOCK_BOOTTIME).
    pub fn set_populated(&mut self, key: CgroupKey, populated: bool, time: u64) -> Option<Change> {
        let cgroup = self.cgroups.get_mut(self.by_key.get(&key)?)?;
        let directory = cgroup
            .directories
            .iter_mut()
            .find(|directory| directory.key == key)?;
        directory.populated = populated;
        if !cgroup.is_container() {
            return None;
        }
        let populated = cgroup
            .directories
            .iter()
            .any(|directory| directory.populated);
        cgroup
            .life
            .set_populated(populated, time, &cgroup.container)
    }

    /// The task is the first process of its cgroup.
    pub fn set_init(&mut self, task: &Task) {
        if let Some(cgroup) = self.own_cgroup_of(task) {
            cgroup.life.set_init(task);
        }
    }

    /// The task was there before the probes. Whether its container has no first process yet, so
    /// that it is this one.
    pub fn set_found(&mut self, task: &Task) -> bool {
        let Some(cgroup) = self.own_cgroup_of(task) else {
            return false;
        };
        // Only of these hierarchies does a task say that it is in them.
        let hierarchies = keys(task).map(|key| key.hierarchy);
        for hierarchy in hierarchies {
            let directories = cgroup.directories.iter_mut();
            directories
                .filter(|directory| directory.key.hierarchy == hierarchy)
                .for_each(|directory| directory.populated = true);
        }
        let started = cgroup
            .life
            .set_populated(true, task.start_time, &cgroup.container);
        cgroup.life.set_init(task);
        started.is_some()
    }

    /// The task has other namespaces now.
    pub fn set_namespaces(&mut self, task: &Task) {
        if let Some(cgroup) = self.own_cgroup_of(task) {
            cgroup.life.set_namespaces(task);
        }
    }

    /// The task, a whole process, ended at `time` with this wait status.
    pub fn set_exit(&mut self, task: &Task, status: u32, time: u64) {
        if let Some(cgroup) = self.own_cgroup_of(task) {
            cgroup.life.set_exit(task, status, time);
        }
    }

    /// The task was killed by the OOM killer.
    pub fn set_oom_killed(&mut self, task: &Task) {
        if let Some(cgroup) = self.own_cgroup_of(task) {
            cgroup.life.set_oom_killed(task);
        }
    }

    /// The container's own cgroup that the task is in or below.
    fn own_cgroup_of(&mut self, task: &Task) -> Option<&mut Cgroup> {
        let container = match self.locate(task) {
            Where::In(container) => container,
            Where::Host | Where::Unknown => return None,
        };
        let id = self.by_path.get(&container.cgroup)?;
        let cgroup = self.cgroups.get_mut(id)?;
        cgroup.is_container().then_some(cgroup)
    }
}
