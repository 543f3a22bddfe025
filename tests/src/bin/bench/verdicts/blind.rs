//! Set-ups by an author who had read what README, `agent verify --help` and docs/ say of `agent verify`, and not its code:
//! what is set and held under pressure, and what nothing presses. `blind_standing.rs` has the others. Rows that were changed
//! once their result was known stand in `seen.rs`.

use super::setup::{FILL, FORK, SLEEP, SPIN, SPIN_4, Setup, Verdict, launched};

pub fn setups() -> Vec<Setup> {
    let parts = [memory(), cpu(), pids(), cpuset(), weights(), disk(), several()];
    parts.into_iter().flatten().collect()
}

fn memory() -> Vec<Setup> {
    let mut all = Vec::new();
    for size in ["8m", "16m", "24m", "40m", "48m"] {
        let flags = format!("--memory={size} --for=700ms");
        all.push(launched(format!("memory of {size} is filled"), &flags, FILL).passes("memory"));
    }
    all.extend([
        launched("eight threads fill memory", "--memory=32m --for=700ms",
            "while :; do {hog} 8 67108864; done 2>/dev/null").passes("memory"),
        launched("three fill memory together", "--memory=48m --for=1s",
            "for i in 1 2 3; do while :; do {hog} 1 33554432; done & done 2>/dev/null; wait").passes("memory"),
        launched("one is killed and the command ends", "--memory=32m", "{hog} 1 67108864; true").passes("memory"),
        launched("the page cache fills memory", "--memory=32m --volume={scratch}:/mnt",
            "dd if=/dev/zero of=/mnt/file bs=1M count=96 2>/dev/null").passes("memory"),
        launched("a file in memory fills it", "--memory=32m --for=700ms",
            "while :; do dd if=/dev/zero of=/tmp/file bs=1M count=64 2>/dev/null; done").passes("memory"),
        launched("memory, and no limit of swap", "--memory=32m --memory-swap=-1 --for=700ms", FILL).passes("memory"),
        launched("memory and no swap", "--memory=32m --memory-swap=32m --for=700ms", FILL).passes("memory").only_v1(),
        launched("bytes", "--memory=33554432 --for=700ms", FILL).passes("memory"),

        launched("memory, and a command that does nothing", "--memory=32m", "true").stays_open("memory"),
        launched("memory is half filled", "--memory=64m --for=500ms", "{hog} 1 33554432").stays_open("memory"),
        launched("little of much memory", "--memory=1g --for=500ms", "{hog} 1 16777216").stays_open("memory"),
        launched("memory is not touched while another spins", "--memory=100m --for=300ms", SPIN).stays_open("memory"),
        launched("swap is limited where there is none", "--memory=32m --memory-swap=64m --for=700ms", FILL)
            .stays_open("memory-swap").with("memory", Verdict::Pass),
    ]);
    all
}

fn cpu() -> Vec<Setup> {
    let mut all = Vec::new();
    for cpus in ["0.05", "0.1", "0.15"] {
        for (name, command) in [("one spins", SPIN), ("four spin", SPIN_4)] {
            let flags = format!("--cpus={cpus} --for=1s");
            all.push(launched(format!("{name} with {cpus} CPUs"), &flags, command).passes("cpu-quota"));
        }
    }
    for (quota, period) in [(2000, 10000), (5000, 20000), (10000, 50000), (50000, 250_000)] {
        let flags = format!("--cpu-quota={quota} --cpu-period={period} --for=1500ms");
        all.push(launched(format!("{quota} of {period} microseconds"), &flags, SPIN).passes("cpu-quota"));
    }
    let open = [
        ("half a CPU, and true", "--cpus=0.5", "true"),
        ("a fifth of a CPU, and true", "--cpus=0.2", "true"),
        ("two CPUs, and true", "--cpus=2", "true"),
        ("half a CPU, and nothing for a second", "--cpus=0.5", "sleep 1"),
        ("a long period, and nothing for a second", "--cpu-period=1000000 --cpu-quota=500000", "sleep 1"),
        ("a long period, and a little", "--cpu-period=1000000 --cpu-quota=900000 --for=1s",
            "for ((i = 0; i < 20000; i++)); do :; done; sleep 1000"),
        ("a little, again and again", "--cpus=0.9 --for=1s", "while :; do sleep 0.1; done"),
        ("64 CPUs", "--cpus=64 --for=300ms", SPIN_4),
        ("half a CPU, and a pause", "--cpus=0.5 --for=500ms", SLEEP),
    ];
    all.extend(open.map(|(name, flags, command)| launched(name, flags, command).stays_open("cpu-quota")));
    all
}

fn pids() -> Vec<Setup> {
    let mut all = Vec::new();
    for limit in [2, 3, 5, 8, 13, 34, 55] {
        let flags = format!("--pids-limit={limit} --for=700ms");
        all.push(launched(format!("forks against {limit} tasks"), &flags, FORK).passes("pids-limit"));
    }
    for limit in [4, 12, 30] {
        let flags = format!("--pids-limit={limit} --for=500ms");
        let forks = format!("for ((i = 1; i < {limit}; i++)); do sleep 1000 & done; wait");
        all.push(launched(format!("as many as {limit} tasks, and no more"), &flags, &forks).stays_open("pids-limit"));
    }
    all.extend([
        launched("the forks of stress-ng", "--pids-limit=20 --for=1s", "exec stress-ng --fork 4 --fork-max 20")
            .passes("pids-limit"),
        launched("threads", "--pids-limit=20 --for=1s", "while :; do {hog} 40 4096; done 2>/dev/null")
            .passes("pids-limit"),
        launched("one task of many", "--pids-limit=1000", "true").stays_open("pids-limit"),
        launched("one task after another", "--pids-limit=10 --for=500ms", "while :; do /bin/true; done").stays_open("pids-limit"),
    ]);
    all
}

fn cpuset() -> Vec<Setup> {
    let two = "while :; do :; done & while :; do :; done";
    vec![
        launched("the second CPU, and four spin", "--cpuset-cpus=1 --for=1s", SPIN_4).passes("cpuset-cpus"),
        launched("the first CPU, and two spin", "--cpuset-cpus=0 --for=1s", two).passes("cpuset-cpus"),
        launched("the second CPU, and two spin", "--cpuset-cpus=1 --for=1s", two).passes("cpuset-cpus"),
        launched("the first CPU, and true", "--cpuset-cpus=0", "true").stays_open("cpuset-cpus"),
        launched("the second CPU, and true", "--cpuset-cpus=1", "true").stays_open("cpuset-cpus"),
        launched("the first CPU, and nothing runs", "--cpuset-cpus=0 --for=500ms", SLEEP).stays_open("cpuset-cpus"),
    ]
}

fn weights() -> Vec<Setup> {
    let mut all = Vec::new();
    for weights in ["100:100", "100:200", "300:100", "50:150", "100:100:100", "100:200:300", "1000:250"] {
        let flags = format!("--weights={weights} --for=2s");
        all.push(launched(format!("siblings of {weights}"), &flags, SPIN).is(Verdict::Pass));
    }
    all.extend([
        launched("siblings that end at once", "--weights=100:200 --for=1s", "true").is(Verdict::Inconclusive),
        launched("three siblings sleep", "--weights=100:200:300 --for=500ms", SLEEP).is(Verdict::Inconclusive),
    ]);
    all
}

fn disk() -> Vec<Setup> {
    let write = "while :; do dd if=/dev/zero of=/mnt/file bs=64k count=64 oflag=direct conv=notrunc 2>/dev/null || exit; done";
    let small = "while :; do dd if=/dev/zero of=/mnt/file bs=4k count=64 oflag=direct conv=notrunc 2>/dev/null || exit; done";
    let read = "dd if=/dev/zero of=/mnt/file bs=1M count=8 oflag=direct 2>/dev/null;
        while :; do dd if=/mnt/file of=/dev/null bs=64k iflag=direct 2>/dev/null || exit; done";
    let with = |limit: &str, for_: &str| format!("--{limit} --volume={{scratch}}:/mnt --for={for_}");
    vec![
        launched("writes of 2 MB/s", &with("device-write-bps={disk}:2m", "2s"), write).passes("device-write-bps"),
        launched("writes of 8 MB/s", &with("device-write-bps={disk}:8m", "2s"), write).passes("device-write-bps"),
        launched("100 writes a second", &with("device-write-iops={disk}:100", "2s"), small).passes("device-write-iops"),
        launched("reads of 4 MB/s", &with("device-read-bps={disk}:4m", "3s"), read).passes("device-read-bps"),
        launched("100 reads a second", &with("device-read-iops={disk}:100", "3s"), read).passes("device-read-iops"),
        launched("no write at all", &with("device-write-bps={disk}:1m", "500ms"), SLEEP).stays_open("device-write-bps"),
        launched("no read at all", &with("device-read-iops={disk}:10", "500ms"), SLEEP).stays_open("device-read-iops"),
        launched("one small write", &with("device-write-bps={disk}:8m", "700ms"),
            "dd if=/dev/zero of=/mnt/file bs=4k count=1 oflag=direct 2>/dev/null; sleep 1000").stays_open("device-write-bps"),
    ]
}

fn several() -> Vec<Setup> {
    vec![
        launched("only memory is pressed", "--memory=32m --pids-limit=50 --for=700ms", FILL)
            .stays_open("pids-limit").with("memory", Verdict::Pass),
        launched("only tasks are pressed", "--memory=64m --pids-limit=10 --for=700ms", FORK)
            .stays_open("memory").with("pids-limit", Verdict::Pass),
    ]
}
