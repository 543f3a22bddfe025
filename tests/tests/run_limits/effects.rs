//! What limits do.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tests::agent::binary;
use tests::alone;
use tests::disk::Disk;
use tests::program::program;
use tests::run::{Container, output, rootfs, wait_until_it_runs};
use tests::wait::{PATIENCE, wait_for};

use super::{file, text};

/// For each thing that is measured over time.
const WINDOW: Duration = Duration::from_secs(4);

#[test]
#[ignore = "needs root"]
fn memory_is_killed_at_the_limit() {
    let container = Container::new("limits-oom");
    let flags = ["--memory=20m", "--memory-swap=20m"];
    // As it ends every line is one that is kept: there is none.
    let script = "busybox tail /dev/zero; echo child $?; sleep 1000";
    let mut run = container.run(&flags, &["sh", "-c", script]);
    let mut child = run.stdout(Stdio::piped()).spawn().expect("it runs");
    let kills = ["memory.oom_control", "memory.events"];
    wait_until_it_runs(&container);
    let path = file(&container, ["memory", "memory"], kills);
    wait_for("an OOM kill", PATIENCE, || {
        (row(&text(&path), "oom_kill ")? > 0).then_some(())
    });
    let peak = ["memory.max_usage_in_bytes", "memory.peak"];
    let peak = file(&container, ["memory", "memory"], peak);
    // Older kernels have no peak on v2.
    if peak.exists() {
        let peak: u64 = text(&peak).parse().expect("a number");
        assert!(peak <= 20 << 20, "{peak}");
        assert!(peak >= 19 << 20, "{peak}");
    }
    drop(container);
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(137));
}

/// A first process makes its namespaces in its cgroup on v2, and their memory counts.
#[test]
#[ignore = "needs root"]
fn the_least_memory_lets_a_container_start() {
    let container = Container::new("limits-least");
    let flags = ["--memory=6m", "--memory-swap=6m"];
    let status = tests::run::status(&mut container.run(&flags, &["true"]));
    assert_eq!(status, 0);
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_first_process_that_is_killed_gives_137() {
    let container = Container::new("limits-oom-first");
    let flags = ["--memory=20m", "--memory-swap=20m"];
    let status = tests::run::status(&mut container.run(&flags, &["busybox", "tail", "/dev/zero"]));
    assert_eq!(status, 137);
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_fork_beyond_the_limit_fails() {
    let container = Container::new("limits-pids");
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo all";
    let ended = output(&mut container.run(&["--pids-limit=5"], &["sh", "-c", script]));
    let said = String::from_utf8_lossy(&ended.stderr);
    // strerror(EAGAIN)
    assert!(
        said.contains("fork: Resource temporarily unavailable"),
        "{said}"
    );
    assert!(!String::from_utf8_lossy(&ended.stdout).contains("all"));
    container.assert_gone();
    let script = script.replace(" 5 6 7 8", "");
    let ended = output(&mut container.run(&["--pids-limit=5"], &["sh", "-c", &script]));
    assert_eq!(ended.stdout, b"all\n");
}

#[test]
#[ignore = "needs root"]
fn cpu_time_is_the_quotas() {
    let _alone = alone();
    // Little enough that it is to be had on a machine that is busy.
    const SHARE: f64 = 0.2;
    let container = Container::new("limits-cpu");
    let share = format!("--cpus={SHARE}");
    let script = "while :; do :; done & while :; do :; done";
    container.start(&[&share, "--cpu-shares=100000"], &["sh", "-c", script]);
    let (used, elapsed) = over(WINDOW, || cpu_time(&container));
    let wanted = elapsed.as_secs_f64() * SHARE;
    let got = used / 1e9;
    assert!(
        (got / wanted - 1.0).abs() <= 0.05,
        "{got} s, wanted {wanted} s"
    );
    let stat = text(&file(&container, ["cpu", "cpu"], ["cpu.stat", "cpu.stat"]));
    assert!(
        row(&stat, "nr_throttled ").is_some_and(|number| number > 10),
        "{stat}"
    );
}

/// In nanoseconds.
fn cpu_time(container: &Container) -> u64 {
    let path = file(container, ["cpuacct", "cpu"], ["cpuacct.usage", "cpu.stat"]);
    let text = text(&path);
    match row(&text, "usage_usec ") {
        Some(micros) => micros * 1000,
        None => text.parse().expect("a number"),
    }
}

#[test]
#[ignore = "needs root"]
fn writes_keep_to_the_rate() {
    const RATE: u64 = 2 << 20;
    let _alone = alone();
    let disk = Disk::new();
    let container = Container::new("limits-io");
    // Only there: the mount ends with its namespace.
    let script = r#"mount -t ext4 "$1" "$2" || exit 99; shift 2; exec "$@""#;
    let mut run = Command::new(program("busybox"));
    run.args(["unshare", "-m", "sh", "-c", script, "sh"]);
    run.arg(&disk.device)
        .arg(disk.directory.path())
        .arg(binary());
    run.args(["run", "--name", &container.name, "--rootfs"])
        .arg(rootfs());
    run.arg(format!(
        "--device-write-bps={}:{RATE}",
        disk.device.display()
    ));
    run.arg(format!("--volume={}:/tmp", disk.directory.path().display()));
    let dd = "while :; do busybox dd if=/dev/zero of=/tmp/file bs=64k count=256 oflag=direct conv=notrunc 2>/dev/null || exit; done";
    run.args(["sh", "-c", dd]);
    let mut child = run.stdin(Stdio::null()).spawn().expect("it runs");
    let number = disk.number();
    let limits = ["blkio.throttle.write_bps_device", "io.max"];
    let limit = file(&container, ["blkio", "io"], limits);
    wait_for("the limit", PATIENCE, || {
        let text = fs::read_to_string(&limit).ok()?;
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("{number} ")))?;
        row.contains(&RATE.to_string()).then_some(())
    });
    let written = || written(&container, &number);
    wait_for("a write", PATIENCE, || (written() > RATE / 2).then_some(()));
    let (bytes, elapsed) = over(WINDOW, written);
    let rate = bytes / elapsed.as_secs_f64();
    let wanted = RATE as f64;
    assert!(
        (rate / wanted - 1.0).abs() <= 0.15,
        "{rate} bytes/s, wanted {wanted}"
    );
    drop(container);
    child.wait().expect("it ends");
}

/// Bytes that a container wrote to a device.
fn written(container: &Container, device: &str) -> u64 {
    let names = ["blkio.throttle.io_service_bytes_recursive", "io.stat"];
    let text = fs::read_to_string(file(container, ["blkio", "io"], names)).unwrap_or_default();
    let v1 = row(&text, &format!("{device} Write "));
    let v2 = || {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{device} ")))?;
        let word = line
            .split(' ')
            .find_map(|word| word.strip_prefix("wbytes="))?;
        word.parse().ok()
    };
    v1.or_else(v2).unwrap_or_default()
}

/// How much a number grows in a time, and the time that it was.
fn over(time: Duration, number: impl Fn() -> u64) -> (f64, Duration) {
    let (first, started) = (number(), Instant::now());
    thread::sleep(time);
    let (last, elapsed) = (number(), started.elapsed());
    let grown = (last - first) as f64;
    (grown, elapsed)
}

/// The number after a key, at the beginning of a line.
fn row(text: &str, key: &str) -> Option<u64> {
    let number = text.lines().find_map(|line| line.strip_prefix(key))?;
    number.trim().parse().ok()
}
