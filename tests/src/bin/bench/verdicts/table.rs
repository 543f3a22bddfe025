//! The set-ups, and what is to be said of each.

use super::knob::Knob;

/// One set-up.
pub struct Setup {
    pub name: &'static str,
    pub what: What,
    /// A limit of the cgroup that it is made in: `{parent}`.
    pub parent: Option<(Knob, &'static str)>,
    /// What somebody does to it: before it is judged, where it stands; while it runs, where it is launched.
    pub act: Option<Act>,
    pub verdict: Verdict,
    /// What the reason has to tell.
    pub reason: &'static [&'static str],
    /// v2 does it right.
    pub only_v1: bool,
}

/// What is judged. In words `{parent}`, `{hog}`, `{scratch}` and `{disk}` stand for what each run has of its own.
#[derive(Clone, Copy)]
pub enum What {
    /// By `agent verify FLAGS -- bash -c COMMAND`.
    Launched {
        flags: &'static [&'static str],
        command: &'static str,
    },
    /// By `agent verify --container NAME`, of a container of `agent run -d` that sleeps.
    Standing {
        run: &'static [&'static str],
        verify: &'static [&'static str],
    },
}

/// What somebody does. All but the first wait until the workload presses against the limit.
#[derive(Clone, Copy)]
pub enum Act {
    Write(Knob, &'static str),
    /// And ends the workload.
    Change(Knob, &'static str),
    /// And lets it go on.
    Share(Knob, &'static str),
    /// And takes it back, and ends the workload.
    ForShort(Knob, &'static str),
    /// Writes to the parent.
    Above(Knob, &'static str),
    /// Moves the first process out of the cgroup.
    Free(Knob),
}

#[derive(Clone, Copy)]
pub enum Verdict {
    Pass,
    Fail,
    Inconclusive,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// What `agent verify` exits with.
    pub fn status(self) -> i32 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Inconclusive => 2,
        }
    }
}

/// Workloads: each presses against its limit until it is ended.
const FILL: &str = "while :; do {hog} 1 67108864; done 2>/dev/null";
const SPIN: &str = "while :; do :; done";
const SPIN_4: &str = "for i in 1 2 3; do while :; do :; done & done; while :; do :; done";
const FORK: &str = "for i in {1..60}; do sleep 1000 & done; wait";
const WRITE: &str = "while :; do dd if=/dev/zero of=/mnt/file bs=256k count=64 oflag=direct conv=notrunc 2>/dev/null || exit; done";
const WRITE_ASIDE: &str = "dd if=/dev/zero of=/mnt/file bs=1M count=64";
const SLEEP: &str = "exec sleep 1000";

const NONE: &str = "-1";

const fn launched(
    name: &'static str,
    flags: &'static [&'static str],
    command: &'static str,
    verdict: Verdict,
    reason: &'static [&'static str],
) -> Setup {
    Setup {
        name,
        what: What::Launched { flags, command },
        parent: None,
        act: None,
        verdict,
        reason,
        only_v1: false,
    }
}

const fn standing(
    name: &'static str,
    run: &'static [&'static str],
    verify: &'static [&'static str],
    reason: &'static [&'static str],
) -> Setup {
    Setup {
        name,
        what: What::Standing { run, verify },
        parent: None,
        act: None,
        verdict: Verdict::Fail,
        reason,
        only_v1: false,
    }
}

const fn sabotaged(
    name: &'static str,
    flags: &'static [&'static str],
    command: &'static str,
    act: Act,
    reason: &'static [&'static str],
) -> Setup {
    Setup {
        act: Some(act),
        ..launched(name, flags, command, Verdict::Fail, reason)
    }
}

const MEMORY: &[&str] = &["--memory=32m"];
/// Of memory and swap together there is no limit: on v1 that of memory cannot be above it.
const MEMORY_ALONE: &[&str] = &["--memory=32m", "--memory-swap=-1"];
const CPU: &[&str] = &["--cpus=0.2"];
const PIDS: &[&str] = &["--pids-limit=20"];
const CPUSET: &[&str] = &["--cpuset-cpus=0"];
const MEMORY_BELOW: &[&str] = &["--memory=32m", "--cgroup-parent={parent}"];
const PIDS_BELOW: &[&str] = &["--pids-limit=20", "--cgroup-parent={parent}"];

const DURING: &str = "during the run";
const INTENDED: &str = "was intended";
const MOVED: &str = "was moved to the cgroup /";

/// All of them. A quota above that is smaller is not among them: v1 refuses it.
#[rustfmt::skip]
pub const TABLE: &[Setup] = &[
    launched("memory is filled", &["--memory=32m", "--for=1s"], FILL, Verdict::Pass, &["held at 32.0M"]),
    launched("one spins", &["--cpus=0.2", "--for=1s"], SPIN, Verdict::Pass, &["held at 0.2 CPUs"]),
    launched("four spin", &["--cpus=0.2", "--for=1s"], SPIN_4, Verdict::Pass, &["held at 0.2 CPUs"]),
    launched("too many forks", &["--pids-limit=20", "--for=1s"], FORK, Verdict::Pass, &["held at 20 tasks"]),
    launched("all limits at once", &["--memory=64m", "--cpus=0.2", "--pids-limit=20", "--for=2s"],
        "while :; do {hog} 1 134217728; done 2>/dev/null & sleep 0.3; for i in {1..60}; do sleep 1000 & done; wait",
        Verdict::Pass, &["held at"]),
    launched("weights of 1 to 3", &["--weights=100:300", "--for=2s"], SPIN, Verdict::Pass, &["25.00 % was due"]),
    launched("weights of 1 to 100", &["--weights=100:10000", "--for=3s"], SPIN, Verdict::Pass, &["0.99 % was due"]),
    launched("one CPU of all", &["--cpuset-cpus=0", "--for=1s"], SPIN_4, Verdict::Pass, &["on CPUs 0"]),
    launched("direct writes", &["--device-write-bps={disk}:4m", "--volume={scratch}:/mnt", "--for=2s"], WRITE,
        Verdict::Pass, &["held at 4.0M/s"]),
    Setup { verdict: Verdict::Pass, ..standing("set and left alone",
        &["-m", "64m", "--cpus", "0.5", "--pids-limit", "50"], &[], &["set as intended"]) },

    launched("nothing fills memory", &["--memory=32m", "--for=300ms"], SLEEP, Verdict::Inconclusive, &["nothing pressed"]),
    launched("nothing spins", &["--cpus=0.2", "--for=300ms"], SLEEP, Verdict::Inconclusive, &["never throttled"]),
    launched("nothing forks", &["--pids-limit=20", "--for=300ms"], SLEEP, Verdict::Inconclusive, &["no fork was refused"]),
    launched("more CPUs than there are", &["--cpus=1000", "--for=300ms"], SPIN, Verdict::Inconclusive, &["cannot be used up"]),
    launched("siblings sleep", &["--weights=100:300", "--for=500ms"], SLEEP, Verdict::Inconclusive, &["not all of them wanted"]),
    launched("nothing writes", &["--device-write-bps={disk}:4m", "--volume={scratch}:/mnt", "--for=300ms"], SLEEP,
        Verdict::Inconclusive, &["nothing pressed"]),

    sabotaged("memory raised", MEMORY, FILL, Act::Change(Knob::Memory, "50331648"), &[DURING, "it held 48.0M"]),
    sabotaged("tasks raised", PIDS, FORK, Act::Change(Knob::Pids, "30"), &[DURING, "it held 30 tasks"]),
    sabotaged("quota raised", CPU, SPIN, Act::Change(Knob::Quota, "40000"), &[DURING, "it held 0.4 CPUs"]),
    sabotaged("memory undone", MEMORY_ALONE, FILL, Act::Change(Knob::Memory, NONE), &[DURING, "it held no limit"]),
    sabotaged("tasks undone", PIDS, FORK, Act::Change(Knob::Pids, "max"), &[DURING, "it held no limit"]),
    sabotaged("quota undone", CPU, SPIN_4, Act::Change(Knob::Quota, NONE), &[DURING, "it held no limit"]),
    sabotaged("memory lowered", MEMORY, FILL, Act::Change(Knob::Memory, "25165824"), &[DURING, "it held 24.0M"]),
    sabotaged("quota lowered", CPU, SPIN, Act::Change(Knob::Quota, "10000"), &[DURING, "it held 0.1 CPUs"]),
    sabotaged("tasks lowered", PIDS, FORK, Act::Change(Knob::Pids, "10"), &[DURING, "it held 10 tasks"]),
    sabotaged("memory raised for a moment", MEMORY, FILL, Act::ForShort(Knob::Memory, "50331648"), &[DURING, "it held 48.0M"]),
    sabotaged("tasks raised for a moment", PIDS, FORK, Act::ForShort(Knob::Pids, "30"), &[DURING, "it held 30 tasks"]),
    sabotaged("quota undone for a moment", CPU, SPIN, Act::ForShort(Knob::Quota, NONE), &[DURING, "it held no limit"]),
    sabotaged("half of the period", CPU, SPIN, Act::Change(Knob::Period, "50000"), &[DURING, "it held 0.4 CPUs"]),
    sabotaged("one more CPU", CPUSET, SPIN_4, Act::Change(Knob::Cpus, "0-1"), &[DURING, "it held 0-1"]),
    sabotaged("one more CPU for a moment", CPUSET, SPIN_4, Act::ForShort(Knob::Cpus, "0-1"), &[DURING, "it held 0-1"]),
    sabotaged("another weight", &["--weights=100:300", "--for=1s"], SPIN, Act::Share(Knob::Weight, "5000"), &[DURING, "5000"]),
    sabotaged("moved from memory", MEMORY, FILL, Act::Free(Knob::Memory), &[MOVED]),
    sabotaged("moved from cpu", CPU, SPIN, Act::Free(Knob::Quota), &[MOVED]),
    sabotaged("moved from pids", PIDS, FORK, Act::Free(Knob::Pids), &[MOVED]),

    Setup { parent: Some((Knob::Memory, "16777216")),
        ..launched("less memory above", &["--memory=32m", "--cgroup-parent={parent}", "--for=500ms"], FILL, Verdict::Fail, &["limited by /agent/bench-", "16.0M < 32.0M"]) },
    Setup { parent: Some((Knob::Pids, "10")),
        ..launched("fewer tasks above", &["--pids-limit=20", "--cgroup-parent={parent}", "--for=500ms"], FORK, Verdict::Fail, &["limited by /agent/bench-", "10 tasks < 20 tasks"]) },
    Setup { parent: Some((Knob::Memory, NONE)),
        ..sabotaged("less memory above from now on", MEMORY_BELOW, FILL, Act::Above(Knob::Memory, "25165824"), &[DURING, "/bench-", "24.0M"]) },
    Setup { parent: Some((Knob::Pids, "max")),
        ..sabotaged("fewer tasks above from now on", PIDS_BELOW, FORK, Act::Above(Knob::Pids, "10"), &[DURING, "/bench-", "10 tasks"]) },

    Setup { act: Some(Act::Write(Knob::Memory, "50331648")),
        ..standing("another limit of memory", &["-m", "32m"], &[], &["holds 48.0M, and 32.0M", INTENDED]) },
    Setup { act: Some(Act::Write(Knob::Quota, "40000")),
        ..standing("another quota", &["--cpus", "0.2"], &[], &["holds 0.4 CPUs, and 0.2 CPUs", INTENDED]) },
    Setup { act: Some(Act::Write(Knob::Pids, "max")),
        ..standing("no limit of tasks", &["--pids-limit", "20"], &[], &["holds no limit, and 20 tasks", INTENDED]) },
    standing("megabytes for mebibytes", &["-m", "150m"], &["--expect=memory=150000000"], &["holds 150.0M, and 143.1M", INTENDED]),
    standing("percents for CPUs", &["--cpus", "0.5"], &["--expect=cpus=50"], &["holds 0.5 CPUs, and 50 CPUs", INTENDED]),
    Setup { only_v1: true,
        ..launched("writes through the page cache", &["--device-write-bps={disk}:1m", "--volume={scratch}:/mnt"], WRITE_ASIDE, Verdict::Fail, &["through the page cache"]) },
];
