//! The set-ups that were written by who knows the code, and what is to be said of each. `blind.rs` has the others.

use super::knob::Knob;
use super::setup::{
    Act, FILL, FORK, SLEEP, SPIN, SPIN_4, Setup, Verdict, launched, standing,
};

const WRITE: &str = "while :; do dd if=/dev/zero of=/mnt/file bs=256k count=64 oflag=direct conv=notrunc 2>/dev/null || exit; done";
const WRITE_ASIDE: &str = "dd if=/dev/zero of=/mnt/file bs=1M count=64; sync";

const NONE: &str = "-1";

const MEMORY: &str = "--memory=32m";
/// Of memory and swap together there is no limit: on v1 that of memory cannot be above it.
const MEMORY_ALONE: &str = "--memory=32m --memory-swap=-1";
const CPU: &str = "--cpus=0.2";
const PIDS: &str = "--pids-limit=20";
const CPUSET: &str = "--cpuset-cpus=0";
const MEMORY_BELOW: &str = "--memory=32m --cgroup-parent={parent}";
const PIDS_BELOW: &str = "--pids-limit=20 --cgroup-parent={parent}";

const DURING: &str = "during the run";
const INTENDED: &str = "was intended";
const MOVED: &str = "was moved to the cgroup /";

pub fn setups() -> Vec<Setup> {
    let parts = [right(), idle(), sabotaged(), above(), otherwise()];
    parts.into_iter().flatten().collect()
}

fn right() -> Vec<Setup> {
    vec![
        launched("memory is filled", "--memory=32m --for=1s", FILL).passes("memory").because("held at 32.0M"),
        launched("one spins", "--cpus=0.2 --for=1s", SPIN).passes("cpu-quota").because("held at 0.2 CPUs"),
        launched("four spin", "--cpus=0.2 --for=1s", SPIN_4).passes("cpu-quota").because("held at 0.2 CPUs"),
        launched("too many forks", "--pids-limit=20 --for=1s", FORK).passes("pids-limit").because("held at 20 tasks"),
        // One after the other, so that none has to wait for what another one leaves.
        launched("all limits at once", "--memory=24m --cpus=0.2 --pids-limit=20 --for=4s",
            "while :; do {hog} 40 4096; {hog} 1 134217728; done 2>/dev/null")
            .passes("memory").passes("cpu-quota").passes("pids-limit").because("held at"),
        launched("weights of 1 to 3", "--weights=100:300 --for=2s", SPIN).because("25.00 % was due"),
        launched("weights of 1 to 100", "--weights=100:10000 --for=3s", SPIN).because("0.99 % was due"),
        launched("one CPU of all", "--cpuset-cpus=0 --for=1s", SPIN_4).because("on CPUs 0"),
        launched("direct writes", "--device-write-bps={disk}:4m --volume={scratch}:/mnt --for=2s", WRITE)
            .because("held at 4.0M/s"),
        standing("set and left alone", "-m 64m --cpus 0.5 --pids-limit 50", SLEEP, "").because("set as intended"),
    ]
}

fn idle() -> Vec<Setup> {
    let open = |name: &str, flags: &str, command: &str| launched(name, flags, command).is(Verdict::Inconclusive);
    vec![
        open("nothing fills memory", "--memory=32m --for=300ms", SLEEP).because("nothing pressed"),
        open("nothing spins", "--cpus=0.2 --for=300ms", SLEEP).because("never throttled"),
        open("nothing forks", "--pids-limit=20 --for=300ms", SLEEP).because("no fork was refused"),
        open("more CPUs than there are", "--cpus=1000 --for=300ms", SPIN).because("cannot be used up"),
        open("siblings sleep", "--weights=100:300 --for=500ms", SLEEP).because("not all of them wanted"),
        open("nothing writes", "--device-write-bps={disk}:4m --volume={scratch}:/mnt --for=300ms", SLEEP)
            .because("nothing pressed"),
    ]
}

fn sabotaged() -> Vec<Setup> {
    let fails = |name: &str, flags: &str, command: &str, act: Act, why: &'static str| {
        launched(name, flags, command).during(act).is(Verdict::Fail).because(why)
    };
    let during = |name: &str, flags: &str, command: &str, act: Act, why: &'static str| {
        fails(name, flags, command, act, why).because(DURING)
    };
    vec![
        during("memory raised", MEMORY, FILL, Act::Change(Knob::Memory, "50331648"), "it held 48.0M"),
        during("tasks raised", PIDS, FORK, Act::Change(Knob::Pids, "30"), "it held 30 tasks"),
        during("quota raised", CPU, SPIN, Act::Change(Knob::Quota, "40000"), "it held 0.4 CPUs"),
        during("memory undone", MEMORY_ALONE, FILL, Act::Change(Knob::Memory, NONE), "it held no limit"),
        during("tasks undone", PIDS, FORK, Act::Change(Knob::Pids, "max"), "it held no limit"),
        during("quota undone", CPU, SPIN_4, Act::Change(Knob::Quota, NONE), "it held no limit"),
        during("memory lowered", MEMORY, FILL, Act::Change(Knob::Memory, "25165824"), "it held 24.0M"),
        during("quota lowered", CPU, SPIN, Act::Change(Knob::Quota, "10000"), "it held 0.1 CPUs"),
        during("tasks lowered", PIDS, FORK, Act::Change(Knob::Pids, "10"), "it held 10 tasks"),
        during("memory raised for a moment", MEMORY, FILL, Act::ForShort(Knob::Memory, "50331648"), "it held 48.0M"),
        during("tasks raised for a moment", PIDS, FORK, Act::ForShort(Knob::Pids, "30"), "it held 30 tasks"),
        during("quota undone for a moment", CPU, SPIN, Act::ForShort(Knob::Quota, NONE), "it held no limit"),
        during("half of the period", CPU, SPIN, Act::Change(Knob::Period, "50000"), "it held 0.4 CPUs"),
        during("one more CPU", CPUSET, SPIN_4, Act::Change(Knob::Cpus, "0-1"), "it held 0-1"),
        during("one more CPU for a moment", CPUSET, SPIN_4, Act::ForShort(Knob::Cpus, "0-1"), "it held 0-1"),
        during("another weight", "--weights=100:300 --for=1s", SPIN, Act::Share(Knob::Weight, "5000"), "5000"),
        fails("moved from memory", MEMORY, FILL, Act::Free(Knob::Memory), MOVED),
        fails("moved from cpu", CPU, SPIN, Act::Free(Knob::Quota), MOVED),
        fails("moved from pids", PIDS, FORK, Act::Free(Knob::Pids), MOVED),
    ]
}

/// A quota above that is smaller is not among them: v1 refuses it.
fn above() -> Vec<Setup> {
    vec![
        launched("less memory above", "--memory=32m --cgroup-parent={parent} --for=500ms", FILL)
            .below(Knob::Memory, "16777216").fails("memory").because("limited by /bench-").because("16.0M < 32.0M"),
        launched("fewer tasks above", "--pids-limit=20 --cgroup-parent={parent} --for=500ms", FORK)
            .below(Knob::Pids, "10").fails("pids-limit").because("limited by /bench-").because("10 tasks < 20 tasks"),
        launched("less memory above from now on", MEMORY_BELOW, FILL)
            .below(Knob::Memory, NONE).during(Act::Above(Knob::Memory, "25165824"))
            .fails("memory").because(DURING).because("/bench-").because("24.0M"),
        launched("fewer tasks above from now on", PIDS_BELOW, FORK)
            .below(Knob::Pids, "max").during(Act::Above(Knob::Pids, "10"))
            .fails("pids-limit").because(DURING).because("/bench-").because("10 tasks"),
    ]
}

fn otherwise() -> Vec<Setup> {
    let stands = |name: &str, flags: &str, verify: &str, why: &'static str| {
        standing(name, flags, SLEEP, verify).is(Verdict::Fail).because(why).because(INTENDED)
    };
    vec![
        stands("another limit of memory", "-m 32m", "", "holds 48.0M, and 32.0M").before(Act::Write(Knob::Memory, "50331648")),
        stands("another quota", "--cpus 0.2", "", "holds 0.4 CPUs, and 0.2 CPUs").before(Act::Write(Knob::Quota, "40000")),
        stands("no limit of tasks", "--pids-limit 20", "", "holds no limit, and 20 tasks").before(Act::Write(Knob::Pids, "max")),
        stands("megabytes for mebibytes", "-m 150m", "--expect=memory=150000000", "holds 150.0M, and 143.1M"),
        stands("percents for CPUs", "--cpus 0.5", "--expect=cpus=50", "holds 0.5 CPUs, and 50 CPUs"),
        launched("writes through the page cache", "--device-write-bps={disk}:1m --volume={scratch}:/mnt", WRITE_ASIDE)
            .fails("device-write-bps").because("through the page cache").only_v1(),
    ]
}
