//! Values: each family of a container under load against the kernel's own file, or a count made elsewhere.

mod agent;
mod disk;
mod families;
mod groups;
mod rows;
mod which;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rows::ROWS;
use rustix::fs::{Advice, fadvise};
use tests::cgroup::Cgroup;
use tests::container::{Container, First};
use tests::memory::Hog;
use tests::metrics::Metrics;
use tests::process::{Lines, kill};
use tests::program::program;
use tests::serve::Serve;
use tests::veth::{INSIDE, Veth};
use tests::wait::{PATIENCE, wait_for};

/// A limit of the container, under which the load runs into both CPU quota and memory.
const MEMORY: u64 = 64 << 20;

/// More than any limit of memory that is tried.
const WITH_SWAP: u64 = MEMORY * 8;

/// Threads of a process besides its first.
const THREADS: u32 = 16;

fn limit(cgroup: &Cgroup) {
    let v1 = Cgroup::is_v1("memory");
    let files = if v1 {
        [
            "memory.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "memory.memsw.limit_in_bytes",
        ]
    } else {
        ["memory.max", "memory.high", "memory.swap.max"]
    };
    for (file, bytes) in files.into_iter().zip([MEMORY, MEMORY * 2, WITH_SWAP]) {
        cgroup.write("memory", file, &bytes.to_string());
    }
    cgroup.write("pids", "pids.max", "500");
    if Cgroup::is_v1("cpu") {
        cgroup.write("cpu", "cpu.cfs_period_us", "50000");
        cgroup.write("cpu", "cpu.cfs_quota_us", "5000");
        cgroup.write("cpu", "cpu.shares", "512");
    } else {
        cgroup.write("cpu", "cpu.max", "5000 50000");
        cgroup.write("cpu", "cpu.weight", "50");
    }
}

/// Runs a program inside to its end.
fn run(cgroup: &Cgroup, name: &str, arguments: &[&str]) {
    let output = cgroup.command(program(name)).args(arguments).output();
    let output = output.expect("it can be run");
    assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
}

/// A shell, and the file of its program.
struct Unread {
    shell: Child,
    file: PathBuf,
}

/// Starts a shell whose program no memory holds yet: what it touches first is read from the disk, and mapped while it
/// waits for its input.
fn start_unread(cgroup: &Cgroup, directory: &Path) -> Unread {
    let file = directory.join("unread");
    let of = format!("of={}", file.display());
    let from = format!("if={}", program("bash").display());
    let status = Command::new(program("dd"))
        .args([&from, &of, "bs=1M", "oflag=direct", "status=none"])
        .status();
    assert!(status.expect("dd can be run").success());
    // The last part of a file is no whole block, and is not written past the page cache.
    let copy = File::open(&file).expect("the copy");
    copy.sync_all().expect("it is on the disk");
    fadvise(&copy, 0, None, Advice::DontNeed).expect("the kernel forgets it");
    fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("a program");
    let mut shell = cgroup.command(&file);
    let shell = shell.args(["-c", "echo runs; read"]).stdin(Stdio::piped());
    let mut shell = shell.stdout(Stdio::piped()).spawn().expect("it can be run");
    let said = Lines::of(shell.stdout.take().expect("a pipe")).next(PATIENCE);
    assert_eq!(said.as_deref(), Some("runs"));
    Unread { shell, file }
}

#[test]
#[ignore = "needs root"]
fn what_a_container_used_is_what_the_kernel_says() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("values");
    limit(&cgroup);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let file = directory.path().join("file");
    let file = file.to_str().expect("a path");
    let container = Container::run(
        cgroup,
        First {
            types: "mnt,net",
            script: "sleep 1000 & sleep 1000 & read",
            pid: None,
        },
    );
    let cgroup = &container.cgroup;
    let id = cgroup.path();
    let started = Instant::now();
    run(
        cgroup,
        "stress-ng",
        &[
            "--cpu",
            "2",
            "--vm",
            "1",
            "--vm-bytes",
            "16M",
            "--timeout",
            "2",
        ],
    );
    run(
        cgroup,
        "dd",
        &["if=/dev/zero", &format!("of={file}"), "bs=1M", "count=100"],
    );
    let mut threads = Hog::start(cgroup, THREADS, 1 << 20);
    assert!(threads.is_full(), "it was killed");
    let mut unread = start_unread(cgroup, directory.path());
    // A page that is read again is active, until memory is short again.
    for _ in 0..2 {
        run(
            cgroup,
            "dd",
            &[
                &format!("if={}", unread.file.display()),
                "of=/dev/null",
                "bs=1M",
            ],
        );
    }
    let took = started.elapsed().as_secs_f64();
    // A value stands between what the kernel said before and after; one that changes is asked for again.
    for row in ROWS {
        let labels = [row.labels, &[("id", &*id)]].concat();
        wait_for(row.metric, PATIENCE, || {
            let before = row.kernel(cgroup);
            let exported = serve.metrics().value(row.metric, &labels);
            let after = row.kernel(cgroup);
            if before == after {
                assert!(
                    (exported - after).abs() <= after * 1e-9,
                    "{}: {exported} is not {after}",
                    row.metric
                );
                assert!(exported > 0.0 || !row.loaded, "{} is 0", row.metric);
            }
            (before == after).then_some(())
        });
    }
    let metrics = serve.metrics();
    let value = |name| metrics.value(name, &[("id", &id)]);
    // A tenth of a CPU, and what a period more allows.
    let used = metrics.value(
        "container_cpu_usage_seconds_total",
        &[("id", &id), ("cpu", "total")],
    );
    assert!(
        used > 0.1 && used < took / 10.0 + 0.3,
        "{used} s of {took} s"
    );
    assert!(
        (value("container_cpu_user_seconds_total") + value("container_cpu_system_seconds_total")
            - used)
            .abs()
            < 0.05
    );
    assert!(value("container_cpu_cfs_throttled_periods_total") > 5.0);
    assert!(value("container_cpu_cfs_throttled_seconds_total") > 0.2);
    assert!(value("container_memory_failcnt") > 0.0);
    assert!(value("container_memory_cache") > (10 << 20) as f64);
    assert!(value("container_memory_max_usage_bytes") > (MEMORY * 9 / 10) as f64);
    let inactive = value("container_memory_total_inactive_file_bytes");
    assert_eq!(
        value("container_memory_working_set_bytes"),
        value("container_memory_usage_bytes") - inactive
    );
    // bash, its two children, another one, and the one that has threads besides its first.
    assert_eq!(value("container_processes"), 5.0);
    assert_eq!(cgroup.members().len(), 5);
    assert_eq!(value("container_threads"), f64::from(5 + THREADS));
    for (name, wanted) in [
        ("container_spec_cpu_period", 50_000.0),
        ("container_spec_cpu_quota", 5_000.0),
        ("container_effective_cpu_limit_cores", 0.1),
        ("container_effective_memory_limit_bytes", MEMORY as f64),
        ("container_spec_memory_limit_bytes", MEMORY as f64),
        ("container_spec_memory_swap_limit_bytes", WITH_SWAP as f64),
        ("container_threads_max", 500.0),
    ] {
        assert_eq!(value(name), wanted, "{name}");
    }
    // On v2 the test wrote a weight of 50, and nobody asked for shares: cAdvisor's line.
    let shares = if Cgroup::is_v1("cpu") { 512.0 } else { 1286.0 };
    assert_eq!(value("container_spec_cpu_shares"), shares);
    kill(&mut unread.shell);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn what_is_below_a_limit_has_it_too() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("effective");
    limit(&cgroup);
    let below = cgroup.child("below");
    let free = Cgroup::new("free");
    let metrics = wait_for("the cgroup is known", PATIENCE, || {
        let metrics = serve.metrics();
        let known = metrics
            .find("container_last_seen", &[("id", &below.path())])
            .is_some()
            && metrics
                .find("container_last_seen", &[("id", &free.path())])
                .is_some();
        known.then_some(metrics)
    });
    let effective = |name, cgroup: &Cgroup| metrics.find(name, &[("id", &cgroup.path())]);
    let (memory, cpu) = (
        "container_effective_memory_limit_bytes",
        "container_effective_cpu_limit_cores",
    );
    assert_eq!(effective(memory, &below), Some(MEMORY as f64));
    assert_eq!(effective(cpu, &below), Some(0.1));
    assert_eq!(
        (effective(memory, &free), effective(cpu, &free)),
        (None, None)
    );
    assert_eq!(
        metrics.value(
            "container_spec_memory_limit_bytes",
            &[("id", &below.path())]
        ),
        0.0
    );
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn a_limit_that_changes_is_seen_at_the_next_scrape() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("changes");
    limit(&cgroup);
    let id = cgroup.path();
    wait_for("the cgroup is known", PATIENCE, || {
        serve
            .metrics()
            .find("container_spec_memory_limit_bytes", &[("id", &id)])
    });
    let memory = if Cgroup::is_v1("memory") {
        "memory.limit_in_bytes"
    } else {
        "memory.max"
    };
    let (cpu, period) = if Cgroup::is_v1("cpu") {
        ("cpu.cfs_quota_us", "")
    } else {
        ("cpu.max", " 50000")
    };
    for step in 1..=5 {
        let (bytes, quota, threads) = (MEMORY * step, 2000 * step, 100 * step);
        cgroup.write("memory", memory, &bytes.to_string());
        cgroup.write("cpu", cpu, &format!("{quota}{period}"));
        cgroup.write("pids", "pids.max", &threads.to_string());
        let metrics = serve.metrics();
        for (name, wanted) in [
            ("container_spec_memory_limit_bytes", bytes),
            ("container_effective_memory_limit_bytes", bytes),
            ("container_spec_cpu_quota", quota),
            ("container_threads_max", threads),
        ] {
            assert_eq!(metrics.count(name, &[("id", &id)]), wanted, "{name}");
        }
    }
    cgroup.write("pids", "pids.max", "max");
    assert_eq!(
        serve
            .metrics()
            .count("container_threads_max", &[("id", &id)]),
        0
    );
    serve.stop();
}

/// The values of the four families of traffic that way.
fn traffic(metrics: &Metrics, way: &str, id: &str) -> [Option<f64>; 4] {
    ["bytes", "packets", "packets_dropped", "errors"].map(|what| {
        let name = format!("container_network_{way}_{what}_total");
        metrics.find(&name, &[("id", id), ("interface", INSIDE)])
    })
}

#[test]
#[ignore = "needs root"]
fn what_came_over_a_veth_is_what_was_sent() {
    let serve = Serve::start(&[]);
    let container = Container::start(Cgroup::new("veth"), "mnt,net");
    let shares = Container::start(Cgroup::new("hostnet"), "mnt");
    let veth = Veth::new(container.pid);
    veth.send(500);
    let counts = || {
        ["bytes", "packets"]
            .map(|what| ["tx", "rx"].map(|way| veth.counted(&format!("{way}_{what}")) as f64))
    };
    wait_for("both ends agree", PATIENCE, || {
        let before = counts();
        let metrics = serve.metrics();
        if before != counts() {
            return None;
        }
        let received = traffic(&metrics, "receive", &container.cgroup.path());
        let transmitted = traffic(&metrics, "transmit", &container.cgroup.path());
        let [[sent_bytes, came_bytes], [sent, came]] = before;
        assert!(sent >= 500.0, "{sent}");
        assert_eq!(
            received,
            [Some(sent_bytes), Some(sent), Some(0.0), Some(0.0)]
        );
        assert_eq!(
            transmitted,
            [Some(came_bytes), Some(came), Some(0.0), Some(0.0)]
        );
        // The host's interfaces are its own.
        let name = "container_network_receive_bytes_total";
        assert_eq!(
            metrics
                .samples(name, &[("id", &shares.cgroup.path())])
                .count(),
            0
        );
        Some(())
    });
    // The namespace is gone with its last process: nothing keeps it.
    drop(container);
    wait_for("the other end is gone", PATIENCE, || {
        let gone = !fs::exists(format!("/sys/class/net/{}", veth.name())).expect("an answer");
        gone.then_some(())
    });
    serve.stop();
}
