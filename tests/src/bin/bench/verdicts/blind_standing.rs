//! Of the set-ups of `blind.rs` those of what runs already, of what somebody does to it, and of what cannot be told.

use super::knob::Knob;
use super::setup::{
    Act, By, FILL, FORK, File, SLEEP, SPIN, SPIN_4, Setup, Verdict, launched, plain, standing,
};

pub fn setups() -> Vec<Setup> {
    let parts = [
        as_told(),
        otherwise(),
        expected(),
        pressed(),
        not_intended(),
        not_readable(),
        in_cgroups_below(),
        frozen(),
        sabotaged(),
    ];
    parts.into_iter().flatten().collect()
}

fn as_told() -> Vec<Setup> {
    let told = [
        ("memory", "-m 48m", "memory"),
        ("memory and swap", "-m 32m --memory-swap 32m", "memory-swap"),
        ("CPU time", "--cpus 0.3", "cpu-quota"),
        ("a quota and a period", "--cpu-quota 7000 --cpu-period 20000", "cpu-quota"),
        ("tasks", "--pids-limit 33", "pids-limit"),
        ("a CPU", "--cpuset-cpus 1", "cpuset-cpus"),
    ];
    told.map(|(name, flags, limit)| {
        standing(format!("{name}, as told"), flags, SLEEP, "").passes(limit)
    })
    .into()
}

fn otherwise() -> Vec<Setup> {
    let stands = |name, flags, act| standing(name, flags, SLEEP, "").before(act);
    vec![
        stands("memory is less than told", "-m 32m", Act::Write(Knob::Memory, "16777216")).fails("memory"),
        stands("memory has no limit", "-m 32m --memory-swap -1", Act::Write(Knob::Memory, "-1")).fails("memory"),
        stands("the quota is gone", "--cpus 0.2", Act::Write(Knob::Quota, "-1")).fails("cpu-quota"),
        stands("the period is double", "--cpus 0.2", Act::Write(Knob::Period, "200000")).fails("cpu-quota"),
        stands("fewer tasks than told", "--pids-limit 20", Act::Write(Knob::Pids, "5")).fails("pids-limit"),
        stands("another CPU than told", "--cpuset-cpus 0", Act::Write(Knob::Cpus, "1")).fails("cpuset-cpus"),
        stands("one of two is not as told", "-m 32m --pids-limit 20", Act::Write(Knob::Pids, "21"))
            .fails("pids-limit").with("memory", Verdict::Pass),
        standing("memory above is less", "-m 32m --cgroup-parent {parent}", SLEEP, "")
            .below(Knob::Memory, "16777216").fails("memory"),
        standing("memory above is more", "-m 32m --cgroup-parent {parent}", SLEEP, "")
            .below(Knob::Memory, "67108864").passes("memory"),
        standing("memory above is the same", "-m 32m --cgroup-parent {parent}", SLEEP, "")
            .below(Knob::Memory, "33554432").passes("memory"),
        standing("tasks above are fewer", "--pids-limit 20 --cgroup-parent {parent}", SLEEP, "")
            .below(Knob::Pids, "10").fails("pids-limit"),
    ]
}

fn expected() -> Vec<Setup> {
    let expects = |name, flags, verify| standing(name, flags, SLEEP, verify);
    vec![
        expects("what is expected is there", "-m 64m", "--expect memory=64m").passes("memory"),
        expects("the same in bytes", "-m 64m", "--expect memory=67108864").passes("memory"),
        expects("gigabytes are expected", "-m 64m", "--expect memory=64g").fails("memory"),
        expects("the quota is expected as CPUs", "--cpu-quota 50000 --cpu-period 100000", "--expect cpus=0.5").passes("cpu-quota"),
        expects("nothing limits what is expected", "--pids-limit 20", "--expect memory=32m").fails("memory"),
        expects("one of two is not as expected", "-m 64m --cpus 0.5", "--expect memory=64m --expect cpus=1")
            .fails("cpu-quota").with("memory", Verdict::Pass),
        plain("a cgroup as expected", &[(Knob::Memory, "33554432")], SLEEP, By::Cgroup, "--expect memory=32m").passes("memory"),
        plain("a cgroup not as expected", &[(Knob::Pids, "30")], SLEEP, By::Cgroup, "--expect pids-limit=20").fails("pids-limit"),
        plain("a process as expected", &[(Knob::Quota, "20000")], SLEEP, By::Pid, "--expect cpus=0.2").passes("cpu-quota"),
        plain("a process not as expected", &[(Knob::Memory, "33554432")], SLEEP, By::Pid, "--expect memory=64m").fails("memory"),
    ]
}

fn pressed() -> Vec<Setup> {
    vec![
        standing("memory that stands is filled", "-m 32m", FILL, "--for 1s").passes("memory"),
        standing("CPU time that stands is used up", "--cpus 0.2", SPIN_4, "--for 1s").passes("cpu-quota"),
        standing("memory that stands is not used", "-m 32m", SLEEP, "--for 300ms").stays_open("memory"),
        standing("tasks that stand are not used", "--pids-limit 20", SLEEP, "--for 300ms").stays_open("pids-limit"),
        plain("a cgroup's memory is filled", &[(Knob::Memory, "33554432")], FILL, By::Cgroup, "--expect memory=32m --for 1s")
            .passes("memory"),
        plain("a cgroup's CPU time is used up", &[(Knob::Quota, "20000")], SPIN, By::Cgroup, "--expect cpus=0.2 --for 1s")
            .passes("cpu-quota"),
        plain("a cgroup's memory is not used", &[(Knob::Memory, "33554432")], SLEEP, By::Cgroup, "--expect memory=32m --for 300ms")
            .stays_open("memory"),
    ]
}

/// Nobody says what was intended.
fn not_intended() -> Vec<Setup> {
    let memory = &[(Knob::Memory, "33554432")];
    let quota = &[(Knob::Quota, "20000")];
    let tasks = &[(Knob::Pids, "20")];
    let open = Verdict::Inconclusive;
    vec![
        plain("memory of a cgroup that nobody explains", memory, SLEEP, By::Cgroup, "").is(open),
        plain("memory of a process that nobody explains", memory, SLEEP, By::Pid, "").is(open),
        plain("CPU time of a cgroup that nobody explains", quota, SLEEP, By::Cgroup, "").is(open),
        plain("CPU time of a process that nobody explains", quota, SLEEP, By::Pid, "").is(open),
        plain("tasks of a cgroup that nobody explains", tasks, SLEEP, By::Cgroup, "").is(open),
        plain("tasks of a process that nobody explains", tasks, SLEEP, By::Pid, "").is(open),
        plain("what nobody explains is filled", memory, FILL, By::Cgroup, "--for 700ms").is(open),
        plain("what nobody explains is used up", quota, SPIN, By::Pid, "--for 700ms").is(open),
    ]
}

fn not_readable() -> Vec<Setup> {
    let stands = |name, flags, command, verify, file| standing(name, flags, command, verify).without(file);
    vec![
        stands("the limit of memory cannot be read", "-m 32m", SLEEP, "",
            File("memory", "memory.limit_in_bytes", "memory.max")).stays_open("memory"),
        stands("the quota cannot be read", "--cpus 0.2", SLEEP, "",
            File("cpu", "cpu.cfs_quota_us", "cpu.max")).stays_open("cpu-quota"),
        stands("the limit of tasks cannot be read", "--pids-limit 20", SLEEP, "",
            File("pids", "pids.max", "pids.max")).stays_open("pids-limit").because("pids.max"),
        stands("the throttling cannot be read", "--cpus 0.2", SPIN, "--for 700ms",
            File("cpu", "cpu.stat", "cpu.stat")).stays_open("cpu-quota").because("cpu.stat"),
    ]
}

fn in_cgroups_below() -> Vec<Setup> {
    vec![
        standing("memory is filled below", "-m 32m", FILL, "--for 1s").before(Act::Inside(Knob::Memory)).passes("memory"),
        standing("CPU time is used up below", "--cpus 0.2", SPIN, "--for 1s").before(Act::Inside(Knob::Quota)).passes("cpu-quota"),
        standing("what moved below is as told", "-m 32m --cpus 0.2", SLEEP, "").before(Act::Inside(Knob::Memory))
            .passes("memory").with("cpu-quota", Verdict::Pass),
        standing("less memory below does not fill it", "-m 64m", FILL, "--for 700ms")
            .before(Act::Limited(Knob::Memory, "16777216")).stays_open("memory"),
    ]
}

fn frozen() -> Vec<Setup> {
    vec![
        standing("frozen, and as told", "-m 32m --cpus 0.2", SLEEP, "").before(Act::FreezeNow)
            .passes("memory").with("cpu-quota", Verdict::Pass),
        standing("frozen, it uses no CPU time", "--cpus 0.2", SPIN, "--for 500ms").before(Act::FreezeNow).stays_open("cpu-quota"),
        launched("frozen once it used up its CPU time", "--cpus=0.2 --for=1s", SPIN)
            .during(Act::Freeze(Knob::Quota)).passes("cpu-quota"),
    ]
}

fn sabotaged() -> Vec<Setup> {
    let sabotaged = |name, flags, command, act| launched(name, flags, command).during(act);
    vec![
        sabotaged("twice the memory", "--memory=16m", FILL, Act::Change(Knob::Memory, "33554432")).fails("memory"),
        sabotaged("twice the memory for a moment", "--memory=16m", FILL, Act::ForShort(Knob::Memory, "33554432")).fails("memory"),
        sabotaged("one more task", "--pids-limit=10", FORK, Act::Change(Knob::Pids, "11")).fails("pids-limit"),
        sabotaged("a tenth of a CPU more", "--cpus=0.1", SPIN, Act::Change(Knob::Quota, "20000")).fails("cpu-quota"),
        sabotaged("the other CPU", "--cpuset-cpus=0", SPIN_4, Act::Change(Knob::Cpus, "1")).fails("cpuset-cpus"),
        sabotaged("out of the cpuset", "--cpuset-cpus=0", SPIN, Act::Free(Knob::Cpus)).fails("cpuset-cpus"),
        sabotaged("one of three limits is lifted", "--memory=64m --cpus=0.2 --pids-limit=20", SPIN, Act::Change(Knob::Quota, "-1"))
            .fails("cpu-quota"),
        launched("memory above is less than what is filled", "--memory=48m --cgroup-parent={parent} --for=500ms", FILL)
            .below(Knob::Memory, "33554432").fails("memory"),
    ]
}
