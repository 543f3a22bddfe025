//! The kernel's statistics of the programs: how often each ran, and how often the kernel skipped it.
//!
//! The kernel skips a program on a CPU where another task was preempted in that program.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use agent_host::fdinfo;

/// The rows of proc_pid_fdinfo(5) that are read. Kernels before 5.12 do not have all of them.
const ROWS: [&str; 3] = ["recursion_misses:", "run_cnt:", "run_time_ns:"];

/// The statistics of all programs of a probe together, since they were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// The runs that the kernel skipped.
    pub missed: u64,
    /// The runs. The kernel counts them only while `kernel.bpf_stats_enabled` is 1 (bpf(2), BPF_ENABLE_STATS).
    pub count: u64,
    /// The time that the runs took in all, in nanoseconds. The kernel measures it only while it counts runs.
    pub nanoseconds: u64,
}

/// The programs of the attached probes. Their statistics can be read without a lock.
#[derive(Debug)]
pub struct Programs(Vec<(&'static str, OwnedFd)>);

impl Programs {
    /// Keeps the programs' descriptors, by probe.
    pub const fn new(programs: Vec<(&'static str, OwnedFd)>) -> Self {
        Self(programs)
    }

    /// Reads the statistics of each probe from `/proc` below `root`. A row that cannot be read counts as 0.
    pub fn runs(&self, root: &Path) -> HashMap<&'static str, Runs> {
        let mut sums: HashMap<&'static str, Runs> = HashMap::new();
        for (probe, program) in &self.0 {
            let rows = fdinfo::numbers(root, program.as_fd(), ROWS);
            let [missed, count, nanoseconds] =
                rows.unwrap_or_default().map(Option::unwrap_or_default);
            let sum = sums.entry(probe).or_default();
            sum.missed += missed;
            sum.count += count;
            sum.nanoseconds += nanoseconds;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use agent_host::fixture::tree;

    use super::*;

    #[test]
    fn programs_of_one_probe_count_together() {
        let open = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let all = [
            ("exit", open()),
            ("exit", open()),
            ("fork", open()),
            ("oom", open()),
        ];
        let path = |at: usize| format!("proc/self/fdinfo/{}", all[at].1.as_raw_fd());
        let root = tree(&[
            (
                &*path(0),
                "recursion_misses:\t3\nrun_cnt:\t10\nrun_time_ns:\t100\n",
            ),
            (
                &*path(1),
                "recursion_misses:\t4\nrun_cnt:\t20\nrun_time_ns:\t200\n",
            ),
            // As an older kernel reports it.
            (&*path(2), "run_cnt:\t5\n"),
        ]);
        let runs = Programs::new(all.into()).runs(root.path());
        let of = |missed, count, nanoseconds| Runs {
            missed,
            count,
            nanoseconds,
        };
        let wanted = [
            ("exit", of(7, 30, 300)),
            ("fork", of(0, 5, 0)),
            ("oom", of(0, 0, 0)),
        ];
        assert_eq!(runs, HashMap::from(wanted));
    }
}
