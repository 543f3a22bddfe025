//! The kernel's counts of runs of each probe's programs: it skips a program on a CPU where another task was preempted in it.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use agent_host::fdinfo;

/// The rows of proc_pid_fdinfo(5). Kernels before 5.12 have not all of them.
const ROWS: [&str; 3] = ["recursion_misses:", "run_cnt:", "run_time_ns:"];

/// What the programs of a probe did so far, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Runs that were skipped.
    pub missed: u64,
    /// How often the programs ran.
    pub count: u64,
    /// How long they ran in all.
    pub nanoseconds: u64,
}

/// The programs of the attached probes. To ask the kernel about them needs no lock.
#[derive(Debug)]
pub struct Programs(Vec<(&'static str, OwnedFd)>);

impl Programs {
    /// Keeps the programs' descriptors, by probe.
    pub const fn new(programs: Vec<(&'static str, OwnedFd)>) -> Self {
        Self(programs)
    }

    /// By probe; what cannot be read counts for nothing.
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
            // Of an older kernel.
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
