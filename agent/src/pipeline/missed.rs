//! Runs of programs that the kernel skipped: what they would have seen is lost.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::host::fdinfo;
use crate::watch::kind::Kind;

/// The kinds of records that a run of each probe's programs may make.
const KINDS: [(&str, &[Kind]); 9] = [
    ("cgroup_mkdir", &[Kind::Container]),
    ("cgroup_rmdir", &[Kind::Container]),
    ("cgroup_populated", &[Kind::Container]),
    ("fork", &[Kind::Fork, Kind::Clone]),
    ("exec", &[Kind::Exec, Kind::Escape]),
    ("exit", &[Kind::Exit]),
    ("oom", &[Kind::Oom]),
    ("unshare", &[Kind::Unshare, Kind::Escape]),
    ("setns", &[Kind::Setns, Kind::Escape]),
];

/// What was skipped so far, probe by probe.
#[derive(Debug, Default)]
pub struct Missed(HashMap<&'static str, u64>);

impl Missed {
    /// What was skipped since the last call, by the kinds of records that it may have been. Kernels before 5.12 do not say.
    pub fn since<'a>(
        &mut self,
        programs: impl Iterator<Item = (&'static str, BorrowedFd<'a>)>,
    ) -> Vec<(Kind, u64)> {
        let mut sums: HashMap<&'static str, u64> = HashMap::new();
        for (probe, program) in programs {
            let rows = fdinfo::numbers(Path::new("/"), program, ["recursion_misses:"]);
            let [missed] = rows.unwrap_or_default();
            *sums.entry(probe).or_default() += missed.unwrap_or_default();
        }
        self.grown_to(sums)
    }

    fn grown_to(&mut self, sums: HashMap<&'static str, u64>) -> Vec<(Kind, u64)> {
        let mut lost = Vec::new();
        for (probe, kinds) in KINDS {
            let sum = sums.get(probe).copied().unwrap_or_default();
            let known = self.0.entry(probe).or_default();
            let new = sum.saturating_sub(*known);
            *known = sum.max(*known);
            if new > 0 {
                lost.extend(kinds.iter().map(|kind| (*kind, new)));
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probes::PROBES;

    #[test]
    fn what_is_skipped_is_told_once() {
        let mut missed = Missed::default();
        let sums = |setns| HashMap::from([("setns", setns), ("exit", 0)]);
        assert_eq!(missed.grown_to(sums(0)), []);
        let lost = [(Kind::Setns, 3), (Kind::Escape, 3)];
        assert_eq!(missed.grown_to(sums(3)), lost);
        assert_eq!(missed.grown_to(sums(3)), []);
        assert_eq!(missed.grown_to(sums(2)), []);
        assert_eq!(
            missed.grown_to(sums(4)),
            [(Kind::Setns, 1), (Kind::Escape, 1)]
        );
    }

    /// Who comes into a container from outside makes no record.
    #[test]
    fn every_probe_has_its_kinds() {
        let of_probes = PROBES.iter().map(|probe| probe.name);
        let named: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
        let others: Vec<_> = of_probes.filter(|it| !named.contains(it)).collect();
        assert_eq!(others, ["attach"]);
    }
}
