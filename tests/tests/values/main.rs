//! Values: each family of a container under load against the kernel's own file, or a count made elsewhere.

mod agent;
mod rows;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use rows::ROWS;
use rustix::fs::{major, minor};
use tests::cgroup::Cgroup;
use tests::container::{Container, First};
use tests::metrics::Metrics;
use tests::program::program;
use tests::serve::Serve;
use tests::veth::{INSIDE, Veth};
use tests::wait::{PATIENCE, wait_for};

/// A limit of the container, under which the load runs into both CPU quota and memory.
const MEMORY: u64 = 64 << 20;

fn limit(cgroup: &Cgroup) {
    let v1 = Cgroup::is_v1("memory");
    let files = if v1 {
        ["memory.limit_in_bytes", "memory.soft_limit_in_bytes"]
    } else {
        ["memory.max", "memory.high"]
    };
    cgroup.write("memory", files[0], &MEMORY.to_string());
    cgroup.write("memory", files[1], &(MEMORY * 2).to_string());
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

#[test]
fn what_a_container_used_is_what_the_kernel_says() {
    if !tests::root() {
        return;
    }
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
    // bash and its two children.
    assert_eq!(value("container_processes"), 3.0);
    assert_eq!(cgroup.members().len(), 3);
    assert_eq!(value("container_threads"), 3.0);
    for (name, wanted) in [
        ("container_spec_cpu_period", 50_000.0),
        ("container_spec_cpu_quota", 5_000.0),
        ("container_effective_cpu_limit_cores", 0.1),
        ("container_effective_memory_limit_bytes", MEMORY as f64),
        ("container_spec_memory_limit_bytes", MEMORY as f64),
        ("container_threads_max", 500.0),
    ] {
        assert_eq!(value(name), wanted, "{name}");
    }
    let shares = value("container_spec_cpu_shares");
    assert!([512.0, 1286.0].contains(&shares), "{shares}");
    serve.stop();
}

#[test]
fn what_is_below_a_limit_has_it_too() {
    if !tests::root() {
        return;
    }
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
fn a_limit_that_changes_is_seen_at_the_next_scrape() {
    if !tests::root() {
        return;
    }
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
fn what_came_over_a_veth_is_what_was_sent() {
    if !tests::root() {
        return;
    }
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

#[test]
fn what_was_written_to_a_device() {
    if !tests::root() {
        return;
    }
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("io");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let device = directory.path().metadata().expect("a directory").dev();
    let device = fs::canonicalize(format!(
        "/sys/dev/block/{}:{}",
        major(device),
        minor(device)
    ));
    let Ok(device) = device else {
        // v2 has no other disk either: there is none.
        panic!("the directory of the build is on no disk: the test needs one");
    };
    // Of a partition, the disk: the kernel counts by that.
    let disk = if device.join("partition").exists() {
        device.parent().expect("a disk")
    } else {
        &device
    };
    let number = fs::read_to_string(disk.join("dev")).expect("a device");
    let number = number.trim();
    let v1 = Cgroup::is_v1("blkio");
    if v1 {
        // From 6.10 on v1 counts only for disks with a limit of some cgroup.
        let none = format!("{number} 10000000000");
        cgroup.write("blkio", "blkio.throttle.write_bps_device", &none);
    }
    let file = directory.path().join("file");
    let of = format!("of={}", file.display());
    run(
        &cgroup,
        "dd",
        &["if=/dev/zero", &of, "bs=64k", "count=64", "oflag=direct"],
    );
    let name = format!(
        "/dev/{}",
        disk.file_name().expect("a name").to_string_lossy()
    );
    let id = cgroup.path();
    let labels = [("id", &*id), ("device", &*name)];
    let metrics = wait_for("what was written is counted", PATIENCE, || {
        let metrics = serve.metrics();
        let written = metrics.find("container_fs_writes_bytes_total", &labels)?;
        (written >= (4 << 20) as f64).then_some(metrics)
    });
    let written = metrics.value("container_fs_writes_bytes_total", &labels);
    let (controller, file) = if v1 {
        ("blkio", "blkio.throttle.io_service_bytes_recursive")
    } else {
        ("io", "io.stat")
    };
    let text = cgroup.read(controller, file);
    let own = text.lines().filter(|line| line.starts_with(number));
    let own: Vec<&str> = own.flat_map(|line| line.split([' ', '='])).collect();
    let key = if v1 { "Write" } else { "wbytes" };
    let kernel = own
        .iter()
        .position(|word| *word == key)
        .map(|at| own[at + 1]);
    assert_eq!(kernel, Some(&*written.to_string()), "{text}");
    assert!(metrics.value("container_fs_writes_total", &labels) >= 1.0);
    let (major, minor) = number.split_once(':').expect("two numbers");
    let usage = [
        ("id", &*id),
        ("major", major),
        ("minor", minor),
        ("operation", "Write"),
    ];
    assert_eq!(
        metrics.value("container_blkio_device_usage_total", &usage),
        written
    );
    serve.stop();
}
