//! Set-ups by a second author, who had read README, `agent verify --help`, the decisions of ARCHITECTURE.md and the rows of
//! this bench, and not the code of `agent verify`. They are of the kinds of which `blind.rs` has few.

use super::knob::Knob;
use super::setup::{
    Act, By, FILL, FORK, File, SLEEP, SPIN, SPIN_4, Setup, THREADS, Verdict, launched, plain, standing,
};

const MEMORY: &[(Knob, &str)] = &[(Knob::Memory, "25165824")];
const TASKS: &[(Knob, &str)] = &[(Knob::Pids, "15")];
const BURST: &[(Knob, &str)] = &[(Knob::Quota, "20000"), (Knob::Burst, "10000")];

/// The file of memory and swap together, of swap on v2.
const SWAP: File = File("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");

pub fn setups() -> Vec<Setup> {
    let parts = [
        not_pressed(), not_intended(), not_readable(), burst(), below(), swap(), frozen(), moved(), as_told(), pressed(),
    ];
    parts.into_iter().flatten().collect()
}

fn not_pressed() -> Vec<Setup> {
    vec![
        launched("less than half of the memory is filled", "--memory=48m --for=400ms", "{hog} 1 20971520").stays_open("memory"),
        launched("half of the threads that may be", "--pids-limit=40 --for=400ms", "{hog} 20 4096").stays_open("pids-limit"),
        standing("CPU time that stands is not used", "--cpus 0.3", SLEEP, "--for 300ms").stays_open("cpu-quota"),
        standing("a CPU that stands is not used", "--cpuset-cpus 0", SLEEP, "--for 300ms").stays_open("cpuset-cpus"),
    ]
}

fn not_intended() -> Vec<Setup> {
    let both = &[(Knob::Memory, "25165824"), (Knob::Pids, "15")];
    vec![
        plain("two limits that nobody explains", both, SLEEP, By::Pid, "").is(Verdict::Inconclusive),
        plain("threads that nobody explains, by process", TASKS, THREADS, By::Pid, "--for 500ms").is(Verdict::Inconclusive),
        plain("a burst that nobody explains", BURST, SPIN, By::Cgroup, "--for 500ms").is(Verdict::Inconclusive),
        plain("the one of two that is explained is another", both, SLEEP, By::Cgroup, "--expect memory=16m").fails("memory"),
        plain("half of the CPU time is expected, and it is used up", &[(Knob::Quota, "20000")], SPIN, By::Cgroup,
            "--expect cpus=0.1 --for 700ms").fails("cpu-quota"),
    ]
}

fn not_readable() -> Vec<Setup> {
    let open = |name: &str, flags: &str, command: &str, verify: &str, file: File, limit: &'static str| {
        standing(name, flags, command, verify).without(file).stays_open(limit)
    };
    let both = |controller, name| File(controller, name, name);
    vec![
        open("the limit of swap", "-m 32m --memory-swap 64m", SLEEP, "", SWAP, "memory-swap").with("memory", Verdict::Pass),
        open("the reservation", "--memory-reservation 16m", SLEEP, "",
            File("memory", "memory.soft_limit_in_bytes", "memory.low"), "memory-reservation"),
        open("the nodes", "--cpuset-mems 0", SLEEP, "", both("cpuset", "cpuset.mems"), "cpuset-mems"),
        open("the set, and all else is as told", "--cpuset-cpus 0 --pids-limit 20", SLEEP, "", both("cpuset", "cpuset.cpus"),
            "cpuset-cpus").with("pids-limit", Verdict::Pass),
        open("how many tasks there are", "--pids-limit 20", THREADS, "--for 500ms", both("pids", "pids.current"), "pids-limit"),
        open("the rate of writes", "--device-write-bps {disk}:4m", SLEEP, "",
            File("blkio", "blkio.throttle.write_bps_device", "io.max"), "device-write-bps"),
        plain("memory of a cgroup that is explained", MEMORY, SLEEP, By::Cgroup, "--expect memory=24m")
            .without(File("memory", "memory.limit_in_bytes", "memory.max")).stays_open("memory"),
        plain("tasks of a process that are explained", TASKS, SLEEP, By::Pid, "--expect pids-limit=15")
            .without(both("pids", "pids.max")).stays_open("pids-limit"),
    ]
}

fn burst() -> Vec<Setup> {
    let with = |name: &str, flags: &str, command: &str, verify: &str, burst| {
        standing(name, flags, command, verify).before(Act::Write(Knob::Burst, burst))
    };
    vec![
        with("a burst as large as a quota of a tenth", "--cpus 0.1", SPIN, "--for 1s", "10000").passes("cpu-quota"),
        with("a burst of a quarter, and four spin", "--cpus 0.2", SPIN_4, "--for 1s", "5000").passes("cpu-quota"),
        with("a burst of a short period", "--cpu-quota 5000 --cpu-period 20000", SPIN, "--for 1s", "5000").passes("cpu-quota"),
        with("a burst, and the quota is double", "--cpus 0.2", SLEEP, "", "20000").before(Act::Write(Knob::Quota, "40000"))
            .fails("cpu-quota"),
        with("a burst, and the period is half", "--cpus 0.2", SLEEP, "", "10000").before(Act::Write(Knob::Period, "50000"))
            .fails("cpu-quota"),
        with("a burst, and frozen", "--cpus 0.2", SPIN, "", "10000").before(Act::FreezeNow).passes("cpu-quota"),
        plain("a burst of a cgroup", BURST, SPIN, By::Cgroup, "--expect cpus=0.2 --for 1s").passes("cpu-quota"),
        plain("a burst of a process, and four spin", BURST, SPIN_4, By::Pid, "--expect cpus=0.2 --for 1s").passes("cpu-quota"),
        plain("a burst of a cgroup, and nothing runs", BURST, SLEEP, By::Cgroup, "--expect cpus=0.2 --for 300ms")
            .stays_open("cpu-quota"),
    ]
}

fn below() -> Vec<Setup> {
    let inside = |name: &str, flags: &str, command: &str, knob| {
        launched(name, flags, command).during(Act::Inside(knob))
    };
    vec![
        inside("it moves below while it fills memory", "--memory=24m --for=1s", FILL, Knob::Memory).passes("memory"),
        inside("it moves below while four spin", "--cpus=0.1 --for=1s", SPIN_4, Knob::Quota).passes("cpu-quota"),
        inside("it moves below, and its threads are refused", "--pids-limit=20 --for=1s", THREADS, Knob::Pids).passes("pids-limit"),
        inside("it moves below, and nothing is pressed", "--memory=48m --for=400ms", SLEEP, Knob::Memory).stays_open("memory"),
        standing("below in three hierarchies, and as told", "-m 40m --cpus 0.3 --pids-limit 25", SLEEP, "")
            .before(Act::Inside(Knob::Memory)).before(Act::Inside(Knob::Quota)).before(Act::Inside(Knob::Pids))
            .passes("memory").with("cpu-quota", Verdict::Pass).with("pids-limit", Verdict::Pass),
        standing("less memory below is the container's affair", "-m 48m", SLEEP, "")
            .before(Act::Limited(Knob::Memory, "16777216")).passes("memory"),
        standing("fewer tasks below are the container's affair", "--pids-limit 30", SLEEP, "")
            .before(Act::Limited(Knob::Pids, "5")).passes("pids-limit"),
        standing("less memory above, and it moved below", "-m 32m --cgroup-parent {parent}", SLEEP, "")
            .below(Knob::Memory, "16777216").before(Act::Inside(Knob::Memory)).fails("memory"),
        standing("a smaller quota below a larger", "--cpus 1.5", SPIN, "--for 500ms")
            .before(Act::Limited(Knob::Quota, "10000")).stays_open("cpu-quota"),
    ]
}

fn swap() -> Vec<Setup> {
    let stands = |name: &str, flags: &str, verify: &str| standing(name, flags, SLEEP, verify);
    vec![
        stands("swap that follows is another", "-m 32m", "").before(Act::Write(Knob::Swap, "134217728")).fails("memory-swap"),
        stands("swap that was asked for is another", "-m 32m --memory-swap 48m", "")
            .before(Act::Write(Knob::Swap, "100663296")).fails("memory-swap"),
        stands("swap without a limit has one", "-m 32m --memory-swap -1", "")
            .before(Act::Write(Knob::Swap, "67108864")).fails("memory-swap"),
        stands("no swap, as told", "-m 24m --memory-swap 24m", "").passes("memory-swap"),
        stands("swap that is not used", "-m 24m --memory-swap 48m", "--for 300ms").stays_open("memory-swap"),
        standing("what stands is filled, and swap is asked for", "-m 24m --memory-swap 48m", FILL, "--for 500ms")
            .stays_open("memory-swap").with("memory", Verdict::Pass),
        launched("20 MiB, and no limit of swap", "--memory=20m --memory-swap=-1 --for=600ms", FILL).passes("memory"),
    ]
}

fn frozen() -> Vec<Setup> {
    let stands = |name: &str, flags: &str, command: &str, verify: &str| standing(name, flags, command, verify);
    vec![
        stands("frozen at its limit of tasks, and as told", "--pids-limit 20", THREADS, "")
            .before(Act::Freeze(Knob::Pids)).passes("pids-limit"),
        stands("frozen at its limit of memory, and as told", "-m 24m", FILL, "").before(Act::Freeze(Knob::Memory)).passes("memory"),
        stands("frozen, and memory is more than told", "-m 48m", SLEEP, "").before(Act::FreezeNow)
            .before(Act::Write(Knob::Memory, "67108864")).fails("memory"),
        stands("frozen, and the CPU is the other", "--cpuset-cpus 0", SLEEP, "").before(Act::FreezeNow)
            .before(Act::Write(Knob::Cpus, "1")).fails("cpuset-cpus"),
        plain("a frozen cgroup, as expected", MEMORY, SLEEP, By::Cgroup, "--expect memory=24m").before(Act::FreezeNow).passes("memory"),
        launched("frozen once four used up their CPU time", "--cpus=0.1 --for=1s", SPIN_4).during(Act::Freeze(Knob::Quota))
            .passes("cpu-quota"),
        launched("frozen, and the quota is lifted", "--cpus=0.1 --for=1s", SPIN).during(Act::Freeze(Knob::Quota))
            .during(Act::Write(Knob::Quota, "-1")).fails("cpu-quota"),
        launched("frozen, and memory is more", "--memory=32m --for=1s", FILL).during(Act::Freeze(Knob::Memory))
            .during(Act::Write(Knob::Memory, "50331648")).fails("memory"),
    ]
}

fn moved() -> Vec<Setup> {
    let out = |name: &str, flags: &str, command: &str, knob, limit| {
        launched(name, flags, command).during(Act::Free(knob)).fails(limit)
    };
    vec![
        out("out of 24 MiB", "--memory=24m", FILL, Knob::Memory, "memory"),
        out("four, one of them out of its CPU time", "--cpus=0.15", SPIN_4, Knob::Quota, "cpu-quota"),
        out("out of eight tasks", "--pids-limit=8", FORK, Knob::Pids, "pids-limit"),
        out("out of the second CPU", "--cpuset-cpus=1", SPIN, Knob::Cpus, "cpuset-cpus"),
    ]
}

fn as_told() -> Vec<Setup> {
    vec![
        standing("a rate of writes, as told", "--device-write-bps {disk}:4m", SLEEP, "").passes("device-write-bps"),
        standing("reads a second, as told", "--device-read-iops {disk}:50", SLEEP, "").passes("device-read-iops"),
        standing("tasks above are as many", "--pids-limit 20 --cgroup-parent {parent}", SLEEP, "").below(Knob::Pids, "20")
            .passes("pids-limit"),
        standing("few shares, by their name", "-c 256", SLEEP, "").passes("cpu-weight"),
        standing("other shares than many", "-c 4096", SLEEP, "").before(Act::Write(Knob::Weight, "600")).fails("cpu-weight"),
    ]
}

fn pressed() -> Vec<Setup> {
    vec![
        launched("a quota below a larger one", "--cpus=0.1 --cgroup-parent={parent} --for=1s", SPIN).below(Knob::Quota, "50000")
            .passes("cpu-quota"),
        launched("memory below more memory", "--memory=16m --cgroup-parent={parent} --for=700ms", FILL).below(Knob::Memory, "67108864")
            .passes("memory"),
        launched("threads below more tasks", "--pids-limit=12 --cgroup-parent={parent} --for=700ms", THREADS).below(Knob::Pids, "50")
            .passes("pids-limit"),
        plain("memory and tasks of a cgroup, and only memory is filled", &[(Knob::Memory, "25165824"), (Knob::Pids, "15")], FILL,
            By::Cgroup, "--expect memory=24m --expect pids-limit=15 --for 700ms")
            .stays_open("pids-limit").with("memory", Verdict::Pass),
        launched("four siblings of one weight", "--weights=100:100:100:100 --for=3s", SPIN).is(Verdict::Pass),
    ]
}
