//! What the threads of each cgroup do, from one list of all threads of the host.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::os::fd::OwnedFd;
use std::path::Path;

use agent_ebpf::CgroupKey;
use agent_host::kept::ReadErrors;
use agent_host::open_files::{self, OpenFiles};
use agent_model::lock::lock;
use agent_model::text;
use agent_model::warn_once::WarnOnce;
use agent_pipeline::PipelineState;
use agent_pipeline::load::Load;
use agent_tracer::kernel::threads::{self, ThreadActivity};

use super::groups::{MetricGroup, MetricGroups};
use super::sandboxes::Sandboxes;

/// The threads of one cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    pub processes: u64,
    /// The threads in each state, in the order of [`ThreadActivity::ALL`].
    pub doing: [u64; ThreadActivity::ALL.len()],
    /// The load averages in thousandths, of running and of uninterruptible threads; `None` where they are off.
    pub load: Option<[u64; 2]>,
    /// The open descriptors; `None` where they are not counted.
    pub open: Option<OpenFiles>,
}

impl AddAssign for Tasks {
    fn add_assign(&mut self, other: Self) {
        self.processes += other.processes;
        for (sum, more) in self.doing.iter_mut().zip(other.doing) {
            *sum += more;
        }
        if let Some(more) = other.load {
            self.add_load(more);
        }
        if let Some(more) = other.open {
            self.add_open(more);
        }
    }
}

impl Tasks {
    fn add_thread(&mut self, is_leader: bool, doing: Option<ThreadActivity>) {
        self.processes += u64::from(is_leader);
        if let Some(doing) = doing {
            self.doing[doing as usize] += 1;
        }
    }

    fn add_load(&mut self, more: [u64; 2]) {
        let load = self.load.get_or_insert_default();
        for (sum, more) in load.iter_mut().zip(more) {
            *sum += more;
        }
    }

    fn add_open(&mut self, more: OpenFiles) {
        let open = self.open.get_or_insert_default();
        open.descriptors += more.descriptors;
        open.sockets += more.sockets;
    }
}

/// The threads of all cgroups.
#[derive(Debug, Default)]
pub struct AllTasks {
    pub by_cgroup: HashMap<CgroupKey, Tasks>,
    /// The tasks of each sandbox, in the order of [`Sandboxes::all`].
    pub by_sandbox: Vec<Tasks>,
    /// The tasks of a cgroup without threads.
    none: Tasks,
}

impl AllTasks {
    /// Counts all threads. Returns `None` where the kernel refuses to list them.
    pub fn count(
        shared: &PipelineState,
        groups: MetricGroups,
        sandboxes: &Sandboxes,
        errors: &mut ReadErrors,
    ) -> Option<Self> {
        static UNCOUNTED: WarnOnce = WarnOnce::new();
        let program = lock(&shared.kernel).threads().map(OwnedFd::try_clone)?;
        let mut all = Self {
            by_sandbox: vec![Tasks::default(); sandboxes.all.len()],
            ..Self::default()
        };
        let mut pids = Vec::new();
        let wants_pids = groups.has(MetricGroup::Process);
        let listed = program.and_then(|program| {
            threads::all(&program, |thread| {
                let is_leader = thread.pid == thread.tid;
                let doing = ThreadActivity::of(thread);
                let of_cgroup = all.by_cgroup.entry(thread.cgroup).or_default();
                of_cgroup.add_thread(is_leader, doing);
                let sandbox = sandboxes.of.get(&thread.pid);
                if let Some(tasks) = sandbox.and_then(|at| all.by_sandbox.get_mut(*at)) {
                    tasks.add_thread(is_leader, doing);
                }
                if is_leader && wants_pids {
                    pids.push((thread.cgroup, thread.pid));
                }
            })
        });
        match listed {
            Ok(()) => UNCOUNTED.clear(),
            Err(error) => {
                let why = text::error_line(&error);
                UNCOUNTED.warn(&format!("processes cannot be counted: {why}"));
                return None;
            }
        }
        if let Some(loads) = shared
            .loads
            .get()
            .filter(|_| groups.has(MetricGroup::CpuLoad))
        {
            all.add_loads(loads);
        }
        if wants_pids {
            all.add_open(pids, errors);
        }
        Some(all)
    }

    /// Returns the tasks of a cgroup.
    pub fn get(&self, key: CgroupKey) -> Tasks {
        self.by_cgroup.get(&key).copied().unwrap_or(self.none)
    }

    fn add_loads(&mut self, loads: HashMap<CgroupKey, Load>) {
        self.none.load = Some([0; 2]);
        for tasks in self.by_cgroup.values_mut() {
            tasks.load = Some([0; 2]);
        }
        for (key, load) in loads {
            let thousandths = |average: f64| (average * 1000.0) as u64;
            let load = [load.running, load.uninterruptible].map(thousandths);
            self.by_cgroup.entry(key).or_default().add_load(load);
        }
    }

    /// Counts the open descriptors of processes, outside of all locks.
    fn add_open(&mut self, pids: Vec<(CgroupKey, u32)>, errors: &mut ReadErrors) {
        self.none.open = Some(OpenFiles::default());
        for tasks in self.by_cgroup.values_mut() {
            tasks.open = Some(OpenFiles::default());
        }
        for (key, pid) in pids {
            let open = open_files::of_process(Path::new("/"), pid);
            if let Some(open) = errors.keep(open) {
                self.by_cgroup.entry(key).or_default().add_open(open);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        let one = Tasks {
            processes: 1,
            doing: [1, 0, 0, 0, 2],
            load: Some([500, 0]),
            open: None,
        };
        let mut sum = Tasks::default();
        sum += one;
        sum += one;
        sum += Tasks {
            open: Some(OpenFiles {
                descriptors: 3,
                sockets: 1,
            }),
            ..Tasks::default()
        };
        assert_eq!(sum.processes, 2);
        assert_eq!(sum.doing, [2, 0, 0, 0, 4]);
        assert_eq!(sum.load, Some([1000, 0]));
        assert_eq!(sum.open.map(|open| open.descriptors), Some(3));
    }

    #[test]
    fn a_cgroup_without_threads_has_averages_of_0() {
        let key = |id| CgroupKey {
            id,
            ..CgroupKey::default()
        };
        let mut all = AllTasks::default();
        all.by_cgroup.entry(key(1)).or_default().processes = 1;
        let load = Load {
            running: 1.2345,
            uninterruptible: 0.0,
        };
        all.add_loads(HashMap::from([(key(2), load)]));
        assert_eq!(all.get(key(1)).load, Some([0, 0]));
        assert_eq!(all.get(key(2)).load, Some([1234, 0]));
        assert_eq!(all.get(key(3)).load, Some([0, 0]));
        assert_eq!(all.get(key(3)).open, None);
    }
}
