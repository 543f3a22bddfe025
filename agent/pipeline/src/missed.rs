//! Runs of programs that the kernel skipped. The events that they would have sent are lost.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_stream::kind::EventKind;
use agent_tracer::kernel::runs::{Programs, Runs};

/// How often the pipeline asks the kernel. Each time it reads a file for each program.
const INTERVAL: Duration = Duration::from_secs(1);

/// The kinds of events that a run of each probe's programs may send.
const KINDS: [(&str, &[EventKind]); 9] = [
    ("cgroup_mkdir", &[EventKind::Container]),
    ("cgroup_rmdir", &[EventKind::Container]),
    ("cgroup_populated", &[EventKind::Container]),
    ("fork", &[EventKind::Fork, EventKind::Clone]),
    ("exec", &[EventKind::Exec, EventKind::Escape]),
    ("exit", &[EventKind::Exit]),
    ("oom", &[EventKind::Oom]),
    ("unshare", &[EventKind::Unshare, EventKind::Escape]),
    ("setns", &[EventKind::Setns, EventKind::Escape]),
];

/// How many runs the kernel has skipped so far, by probe.
#[derive(Debug)]
pub(crate) struct Missed {
    known: HashMap<&'static str, u64>,
    asked: Instant,
}

/// Skipped runs by the kinds of events that they may have sent, and the time in which the kernel skipped them.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    pub kinds: Vec<(EventKind, u64)>,
    pub within: Duration,
}

impl Missed {
    pub(crate) fn new() -> Self {
        Self {
            known: HashMap::new(),
            asked: Instant::now(),
        }
    }

    /// The runs that the kernel skipped since the last call; none if that was less than a second ago.
    pub(crate) fn since_last(&mut self, programs: &Programs) -> Skipped {
        let within = self.asked.elapsed();
        if within < INTERVAL {
            return Skipped::default();
        }
        self.asked = Instant::now();
        let kinds = self.grown_to(&programs.runs(Path::new("/")));
        Skipped { kinds, within }
    }

    fn grown_to(&mut self, runs: &HashMap<&'static str, Runs>) -> Vec<(EventKind, u64)> {
        let mut lost = Vec::new();
        for (probe, kinds) in KINDS {
            let sum = runs.get(probe).map_or(0, |runs| runs.missed);
            let known = self.known.entry(probe).or_default();
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
    use agent_tracer::kernel::probes::PROBES;

    use super::*;

    #[test]
    fn what_is_skipped_is_told_once() {
        let mut missed = Missed::new();
        let runs = |missed| Runs {
            missed,
            ..Runs::default()
        };
        let sums = |setns| HashMap::from([("setns", runs(setns)), ("exit", runs(0))]);
        assert_eq!(missed.grown_to(&sums(0)), []);
        let lost = [(EventKind::Setns, 3), (EventKind::Escape, 3)];
        assert_eq!(missed.grown_to(&sums(3)), lost);
        assert_eq!(missed.grown_to(&sums(3)), []);
        assert_eq!(missed.grown_to(&sums(2)), []);
        assert_eq!(
            missed.grown_to(&sums(4)),
            [(EventKind::Setns, 1), (EventKind::Escape, 1)]
        );
    }

    /// The probe `attach` sends no record: it notes processes that enter a container from outside.
    #[test]
    fn every_probe_has_its_kinds() {
        let of_probes = PROBES.iter().map(|probe| probe.name);
        let named: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
        let others: Vec<_> = of_probes.filter(|it| !named.contains(it)).collect();
        assert_eq!(others, ["attach"]);
    }
}
