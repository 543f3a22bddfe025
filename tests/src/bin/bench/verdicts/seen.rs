//! More set-ups by who knows the code: what does not press, what nobody intended, what cannot be read, bursts, cgroups below,
//! hosts without swap, what is frozen, and what is moved.

use super::knob::Knob;
use super::setup::{
    Act, By, FILL, FORK, File, SLEEP, SPIN, SPIN_4, Setup, THREADS, Verdict, launched, plain, standing,
};

const MEMORY: &[(Knob, &str)] = &[(Knob::Memory, "33554432")];
const QUOTA: &[(Knob, &str)] = &[(Knob::Quota, "20000")];
const TASKS: &[(Knob, &str)] = &[(Knob::Pids, "20")];
const CPU: &[(Knob, &str)] = &[(Knob::Cpus, "0")];

pub fn setups() -> Vec<Setup> {
    let parts = [
        not_pressed(), not_intended(), not_readable(), burst(), below(), no_swap(), frozen(), moved(), changed(), as_told(), pressed(), once_blind(),
    ];
    parts.into_iter().flatten().collect()
}

fn not_pressed() -> Vec<Setup> {
    let open = [
        ("a tiny limit of memory, less than CPUs charge ahead", "--memory=6m", "sleep 0.2", "memory"),
        ("memory up to just below the limit", "--memory=64m --for=700ms", "{hog} 1 58720256", "memory"),
        ("nearly a CPU, and true", "--cpus=0.9", "true", "cpu-quota"),
        ("a quota, and a shell that waits", "--cpus=0.3 --for=300ms", "read -t 100", "cpu-quota"),
        ("one more CPU than there is, in quotas", "--cpus=3 --for=500ms", SPIN_4, "cpu-quota"),
        ("a set of one CPU, and one that spins", "--cpuset-cpus=0 --for=500ms", SPIN, "cpuset-cpus"),
        ("a set of the other CPU, and one that spins", "--cpuset-cpus=1 --for=500ms", SPIN, "cpuset-cpus"),
        ("a set of all CPUs", "--cpuset-cpus=0-1 --for=500ms", SPIN_4, "cpuset-cpus"),
        ("one task short of the limit", "--pids-limit=20 --for=400ms",
            "for i in {1..19}; do sleep 1000 & done; wait", "pids-limit"),
        ("threads that fit", "--pids-limit=50 --for=400ms", "{hog} 40 4096", "pids-limit"),
        ("a reservation of memory", "--memory-reservation=16m --for=300ms", SLEEP, "memory-reservation"),
        ("shares by themselves", "--cpu-shares=512 --for=300ms", SPIN, "cpu-weight"),
        ("memory nodes", "--cpuset-mems=0 --for=300ms", SLEEP, "cpuset-mems"),
    ];
    let mut all: Vec<Setup> = open.map(|(name, flags, command, limit)| launched(name, flags, command).stays_open(limit)).into();
    all.extend([
        launched("one of two siblings", "--weights=100:100 --for=1s", "sleep 0.$((RANDOM % 9)); exec sleep 1000").is(Verdict::Inconclusive),
        launched("a limit for swap where none is used", "--memory=64m --memory-swap=128m --for=300ms", SLEEP).stays_open("memory-swap"),
    ]);
    all
}

fn not_intended() -> Vec<Setup> {
    let nobody = "nobody says what was intended";
    let open = |name: &str, limits: &[(Knob, &'static str)], command: &str, by, verify: &str| {
        plain(name, limits, command, by, verify).is(Verdict::Inconclusive).because(nobody)
    };
    vec![
        open("memory that nobody explains, by path", MEMORY, SLEEP, By::Cgroup, "").with("memory", Verdict::Inconclusive),
        open("memory that nobody explains, by process", MEMORY, SLEEP, By::Pid, "").with("memory", Verdict::Inconclusive),
        open("a quota that nobody explains, by path", QUOTA, SLEEP, By::Cgroup, "").with("cpu-quota", Verdict::Inconclusive),
        open("tasks that nobody explains, by process", TASKS, SLEEP, By::Pid, "").with("pids-limit", Verdict::Inconclusive),
        open("a CPU that nobody explains", CPU, SLEEP, By::Cgroup, "").with("cpuset-cpus", Verdict::Inconclusive),
        open("filled, and nobody explains it", MEMORY, FILL, By::Pid, "--for 600ms").with("memory", Verdict::Inconclusive),
        open("used up, and nobody explains it", QUOTA, SPIN_4, By::Cgroup, "--for 600ms").with("cpu-quota", Verdict::Inconclusive),
        open("threads refused, and nobody explains it", TASKS, THREADS, By::Cgroup, "--for 600ms")
            .with("pids-limit", Verdict::Inconclusive),
        plain("one is explained, and that is judged", &[(Knob::Memory, "33554432"), (Knob::Pids, "20")], SLEEP, By::Pid,
            "--expect pids-limit=20").passes("pids-limit"),
        plain("explained wrongly", MEMORY, SLEEP, By::Pid, "--expect memory=33m").fails("memory"),
    ]
}

fn not_readable() -> Vec<Setup> {
    let of = |name: &str, flags: &str, command: &str, verify: &str, file: File, limit: &'static str| {
        standing(name, flags, command, verify).without(file).stays_open(limit).because("cannot be read")
    };
    let both = |controller, name| File(controller, name, name);
    vec![
        of("memory.limit_in_bytes, in a run", "-m 32m", FILL, "--for 500ms",
            File("memory", "memory.limit_in_bytes", "memory.max"), "memory"),
        of("failcnt", "-m 64m", SLEEP, "--for 500ms", File("memory", "memory.failcnt", "memory.events.local"), "memory").only_v1(),
        of("the quota, in a run", "--cpus 0.2", SPIN, "--for 500ms", File("cpu", "cpu.cfs_quota_us", "cpu.max"), "cpu-quota"),
        of("the period", "--cpus 0.2", SLEEP, "", File("cpu", "cpu.cfs_period_us", "cpu.max"), "cpu-quota"),
        of("the CPU time", "--cpus 0.2", SPIN, "--for 500ms", File("cpuacct", "cpuacct.usage", "cpu.stat"), "cpu-quota"),
        of("the throttling", "--cpus 0.3", SPIN_4, "--for 500ms", both("cpu", "cpu.stat"), "cpu-quota"),
        of("the tasks", "--pids-limit 20", THREADS, "--for 500ms", both("pids", "pids.max"), "pids-limit"),
        of("refused forks", "--pids-limit 20", THREADS, "--for 500ms", both("pids", "pids.events"), "pids-limit").only_v1(),
        of("the set", "--cpuset-cpus 0", SPIN_4, "", both("cpuset", "cpuset.cpus"), "cpuset-cpus"),
        of("the time of each CPU", "--cpuset-cpus 0", SPIN_4, "--for 500ms",
            File("cpuacct", "cpuacct.usage_percpu", "cpu.stat"), "cpuset-cpus").only_v1(),
        of("the shares", "-c 512", SLEEP, "", File("cpu", "cpu.shares", "cpu.weight"), "cpu-weight"),
        of("one of two", "-m 32m --pids-limit 20", SLEEP, "", both("pids", "pids.max"), "pids-limit").with("memory", Verdict::Pass),
        // Of what is not judged it does not matter.
        standing("a file that nobody needs", "--pids-limit 20", SLEEP, "")
            .without(File("memory", "memory.limit_in_bytes", "memory.max")).passes("pids-limit"),
        standing("unreadable, and another limit fails", "-m 32m --pids-limit 20", SLEEP, "")
            .without(File("memory", "memory.limit_in_bytes", "memory.max"))
            .before(Act::Write(Knob::Pids, "21")).fails("pids-limit").with("memory", Verdict::Inconclusive),
    ]
}

fn burst() -> Vec<Setup> {
    let with = |name: &str, flags: &str, command: &str, burst| {
        standing(name, flags, command, "--for 1s").before(Act::Write(Knob::Burst, burst)).passes("cpu-quota")
    };
    vec![
        with("a burst, and one spins", "--cpus 0.2", SPIN, "20000"),
        with("a burst, and four spin", "--cpus 0.2", SPIN_4, "20000"),
        with("a small burst", "--cpus 0.2", SPIN, "1000"),
        with("a burst, and a pause before", "--cpu-quota 20000 --cpu-period 100000", "while :; do sleep 0.2; for ((i = 0; i < 600000; i++)); do :; done; done", "20000"),
        standing("a burst, and nothing runs", "--cpus 0.2", SLEEP, "--for 400ms").before(Act::Write(Knob::Burst, "20000")).stays_open("cpu-quota"),
        standing("a burst is no other quota", "--cpus 0.2", SLEEP, "").before(Act::Write(Knob::Burst, "20000")).passes("cpu-quota"),
    ]
}

fn below() -> Vec<Setup> {
    let stands = |name: &str, flags: &str, command: &str, verify: &str, knob| {
        standing(name, flags, command, verify).before(Act::Inside(knob))
    };
    vec![
        stands("its init moved itself, and all is as told", "-m 48m --pids-limit 30", SLEEP, "", Knob::Memory)
            .passes("memory").with("pids-limit", Verdict::Pass),
        stands("below, four spin", "--cpus 0.2", SPIN_4, "--for 1s", Knob::Quota).passes("cpu-quota"),
        stands("below, memory is filled", "-m 24m", FILL, "--for 1s", Knob::Memory).passes("memory"),
        stands("below, a set is used", "--cpuset-cpus 0", SPIN_4, "--for 700ms", Knob::Quota).passes("cpuset-cpus"),
        stands("below, threads are refused", "--pids-limit 25", THREADS, "--for 1s", Knob::Pids).passes("pids-limit"),
        stands("below, nothing is used", "-m 32m", SLEEP, "--for 300ms", Knob::Memory).stays_open("memory"),
        stands("its init moved itself, and the limit is another", "-m 32m", SLEEP, "", Knob::Memory)
            .before(Act::Write(Knob::Memory, "50331648")).fails("memory"),
        standing("fewer tasks below do not press above", "--pids-limit 30", THREADS, "--for 700ms")
            .before(Act::Limited(Knob::Pids, "10")).stays_open("pids-limit").only_v1(),
        standing("killed by a limit below", "-m 64m", FILL, "--for 700ms")
            .before(Act::Limited(Knob::Memory, "8388608")).stays_open("memory").only_v1(),
    ]
}

fn no_swap() -> Vec<Setup> {
    vec![
        standing("what follows from memory does not decide", "-m 32m", FILL, "--for 700ms")
            .passes("memory").with("memory-swap", Verdict::Inconclusive),
        standing("swap that was asked for decides", "-m 32m --memory-swap 96m", FILL, "--for 700ms")
            .stays_open("memory-swap").with("memory", Verdict::Pass),
        launched("memory alone", "--memory=24m --for=500ms", FILL).passes("memory"),
        launched("memory, and swap of its own", "--memory=24m --memory-swap=72m --for=500ms", FILL)
            .stays_open("memory-swap").with("memory", Verdict::Pass),
        launched("no swap, and nothing happens", "--memory=24m --memory-swap=24m --for=300ms", SLEEP).stays_open("memory-swap"),
        standing("as told, with swap", "-m 32m --memory-swap 64m", SLEEP, "").passes("memory-swap"),
        standing("another limit of memory, where swap follows", "-m 32m", FILL, "--for 500ms")
            .before(Act::Write(Knob::Memory, "25165824")).fails("memory"),
    ]
}

fn frozen() -> Vec<Setup> {
    vec![
        standing("frozen, and shares are as told", "-c 2048", SLEEP, "").before(Act::FreezeNow).passes("cpu-weight"),
        standing("frozen, and memory is not filled", "-m 32m", SLEEP, "--for 300ms").before(Act::FreezeNow).stays_open("memory"),
        standing("frozen, and no task is made", "--pids-limit 20", SLEEP, "--for 300ms").before(Act::FreezeNow).stays_open("pids-limit"),
        standing("frozen, and the quota is another", "--cpus 0.2", SPIN, "").before(Act::FreezeNow)
            .before(Act::Write(Knob::Quota, "30000")).fails("cpu-quota"),
        standing("frozen, and the tasks are others", "--pids-limit 20", SLEEP, "").before(Act::FreezeNow)
            .before(Act::Write(Knob::Pids, "max")).fails("pids-limit"),
        launched("frozen once it filled memory", "--memory=32m --for=700ms", FILL).during(Act::Freeze(Knob::Memory)).passes("memory"),
        launched("frozen once its forks were refused", "--pids-limit=20 --for=700ms", FORK).during(Act::Freeze(Knob::Pids)).passes("pids-limit"),
        plain("frozen, and nobody explains it", MEMORY, SLEEP, By::Cgroup, "").before(Act::FreezeNow).is(Verdict::Inconclusive),
    ]
}

fn moved() -> Vec<Setup> {
    let out = |name: &str, flags: &str, command: &str, knob, limit| {
        launched(name, flags, command).during(Act::Free(knob)).fails(limit).because("was moved to the cgroup /")
    };
    vec![
        out("out of 16 MiB", "--memory=16m", FILL, Knob::Memory, "memory"),
        out("out of a tenth of a CPU", "--cpus=0.1", SPIN, Knob::Quota, "cpu-quota"),
        out("out of ten tasks", "--pids-limit=10", FORK, Knob::Pids, "pids-limit"),
        out("out of a CPU", "--cpuset-cpus=1", SPIN_4, Knob::Cpus, "cpuset-cpus"),
        out("out of one of two", "--pids-limit=20 --cpus=0.2", SPIN, Knob::Quota, "cpu-quota"),
    ]
}

fn changed() -> Vec<Setup> {
    let during = "during the run";
    let act = |name: &str, flags: &str, command: &str, act, limit| {
        launched(name, flags, command).during(act).fails(limit).because(during)
    };
    vec![
        act("one page more", "--memory=32m --memory-swap=-1", FILL, Act::Change(Knob::Memory, "33558528"), "memory"),
        act("half of the memory", "--memory=32m", FILL, Act::Change(Knob::Memory, "16777216"), "memory"),
        act("one task less", "--pids-limit=20", FORK, Act::Change(Knob::Pids, "19"), "pids-limit"),
        act("a little more time", "--cpus=0.2", SPIN, Act::Change(Knob::Quota, "21000"), "cpu-quota"),
        act("a longer period", "--cpus=0.2", SPIN, Act::Change(Knob::Period, "200000"), "cpu-quota"),
        act("the other CPU for a moment", "--cpuset-cpus=0", SPIN_4, Act::ForShort(Knob::Cpus, "1"), "cpuset-cpus"),
        act("less memory for a moment", "--memory=32m", FILL, Act::ForShort(Knob::Memory, "25165824"), "memory"),
        act("fewer tasks for a moment", "--pids-limit=20", FORK, Act::ForShort(Knob::Pids, "10"), "pids-limit"),
    ]
}

fn as_told() -> Vec<Setup> {
    let told = [
        ("eight pages", "-m 16m", "memory"), ("a weight", "--cpu-weight 300", "cpu-weight"), ("the least weight", "--cpu-weight 1", "cpu-weight"),
        ("the usual shares", "-c 1024", "cpu-weight"), ("two CPUs of quota", "--cpus 2", "cpu-quota"),
        ("a reservation", "--memory-reservation 16m", "memory-reservation"), ("all nodes", "--cpuset-mems 0", "cpuset-mems"),
        ("many tasks", "--pids-limit 4000", "pids-limit"), ("both CPUs", "--cpuset-cpus 0-1", "cpuset-cpus"),
    ];
    let mut all: Vec<Setup> = told.map(|(name, flags, limit)| standing(format!("as told: {name}"), flags, SLEEP, "").passes(limit)).into();
    all.extend([
        standing("another weight than told", "--cpu-weight 300", SLEEP, "").before(Act::Write(Knob::Weight, "77")).fails("cpu-weight"),
        standing("memory in other words", "-m 64m", SLEEP, "--expect memory=65536k").passes("memory"),
        standing("a quota in other words", "--cpus 0.25", SLEEP, "--expect cpu-quota=25000 --expect cpu-period=100000").passes("cpu-quota"),
        standing("no limit is expected, and one is there", "--pids-limit 20", SLEEP, "--expect pids-limit=-1").fails("pids-limit"),
    ]);
    all
}

fn pressed() -> Vec<Setup> {
    vec![
        plain("tasks of a cgroup are used up", TASKS, THREADS, By::Cgroup, "--expect pids-limit=20 --for 700ms").passes("pids-limit"),
        plain("memory of a process is filled", MEMORY, FILL, By::Pid, "--expect memory=32m --for 700ms").passes("memory"),
        plain("time of a process is used up", QUOTA, SPIN_4, By::Pid, "--expect cpus=0.2 --for 700ms").passes("cpu-quota"),
        plain("a CPU of a cgroup is wanted by many", CPU, SPIN_4, By::Cgroup, "--expect cpuset-cpus=0 --for 700ms").passes("cpuset-cpus"),
        launched("a quota of a long period", "--cpu-quota=100000 --cpu-period=500000 --for=2s", SPIN).passes("cpu-quota"),
        launched("a quota of the shortest period", "--cpu-quota=1000 --cpu-period=5000 --for=1s", SPIN).passes("cpu-quota"),
        launched("threads beyond ten tasks", "--pids-limit=10 --for=600ms", THREADS).passes("pids-limit"),
        launched("siblings of 1 to 2 to 4", "--weights=100:200:400 --for=3s", SPIN).is(Verdict::Pass),
        launched("siblings of 10000 to 5000", "--weights=10000:5000 --for=2s", SPIN).is(Verdict::Pass),
        launched("writes of 3 MB/s", "--device-write-bps={disk}:3m --volume={scratch}:/mnt --for=2s",
            "while :; do dd if=/dev/zero of=/mnt/file bs=128k count=64 oflag=direct conv=notrunc 2>/dev/null || exit; done")
            .passes("device-write-bps"),
    ]
}

/// Rows of `blind.rs` and `blind_later.rs` whose command, limits, or name of a limit were changed once their result was known.
fn once_blind() -> Vec<Setup> {
    let all = "--memory=16m --cpus=0.1 --pids-limit=20 --for=4s";
    vec![
        launched("one spins with 0.08 CPUs", "--cpus=0.08 --for=1s", SPIN).passes("cpu-quota"),
        launched("four spin with 0.08 CPUs", "--cpus=0.08 --for=1s", SPIN_4).passes("cpu-quota"),
        launched("all are pressed", all, "while :; do {hog} 40 4096; {hog} 1 67108864; done 2>/dev/null")
            .passes("memory").with("cpu-quota", Verdict::Pass).with("pids-limit", Verdict::Pass),
        launched("only CPU time is pressed", "--memory=64m --cpus=0.1 --for=700ms", SPIN)
            .stays_open("memory").with("cpu-quota", Verdict::Pass),
        launched("none of three is pressed", all, SLEEP)
            .stays_open("memory").with("cpu-quota", Verdict::Inconclusive).with("pids-limit", Verdict::Inconclusive),
        launched("CPU time on one CPU", "--cpus=0.1 --cpuset-cpus=0 --for=1s", SPIN_4)
            .passes("cpu-quota").with("cpuset-cpus", Verdict::Pass),
        standing("few shares, as told", "-c 512", SLEEP, "").passes("cpu-weight"),
        standing("many shares, as told", "-c 4096", SLEEP, "").passes("cpu-weight"),
        standing("other shares than told", "-c 512", SLEEP, "").before(Act::Write(Knob::Weight, "2000")).fails("cpu-weight"),
        standing("one page more is expected", "-m 64m", SLEEP, "--expect memory=67112960").fails("memory"),
        standing("tasks that stand are used up", "--pids-limit 20", THREADS, "--for 1s").passes("pids-limit"),
        standing("the refused forks cannot be read", "--pids-limit 20", THREADS, "--for 700ms")
            .without(File("pids", "pids.events", "pids.events")).stays_open("pids-limit").because("pids.events"),
        // Written as launched: on a busy machine, two that start want the CPU for a while.
        standing("three sleep on one CPU", "--cpuset-cpus 0", "sleep 1000 & sleep 1000 & exec sleep 1000", "--for 400ms")
            .before(Act::AwaitSleep(3)).stays_open("cpuset-cpus"),
        // Written with `memory=-1`, which --memory does not take.
        standing("no quota is expected, and one is there", "--cpus 0.5", SLEEP, "--expect cpu-quota=-1").fails("cpu-quota"),
        standing("tasks are used up below", "--pids-limit 20", THREADS, "--for 1s").before(Act::Inside(Knob::Pids)).passes("pids-limit"),
    ]
}
