//! Families that are switched by name, and those that no file of a cgroup has.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;

use rustix::fs::statvfs;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tests::cgroup::Cgroup;
use tests::container::{Container, First};
use tests::metrics::Metrics;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

/// Families that are off by default, by group.
const OFF: [(&str, &[&str]); 3] = [
    (
        "process",
        &[
            "container_file_descriptors",
            "container_sockets",
            "container_ulimits_soft",
        ],
    ),
    (
        "tcp",
        &[
            "container_network_tcp_usage_total",
            "container_network_tcp6_usage_total",
        ],
    ),
    (
        "udp",
        &[
            "container_network_udp_usage_total",
            "container_network_udp6_usage_total",
        ],
    ),
];

/// Families that are on by default, by group.
const ON: [(&str, &str); 6] = [
    ("cpu", "container_cpu_usage_seconds_total"),
    ("cpuLoad", "container_tasks_state"),
    ("memory", "container_memory_kernel_usage"),
    ("diskIO", "container_fs_io_current"),
    ("disk", "container_fs_limit_bytes"),
    ("network", "container_network_receive_bytes_total"),
];

fn has(metrics: &Metrics, family: &str) -> bool {
    let wanted = format!("# TYPE {family} ");
    metrics.text().lines().any(|line| line.starts_with(&wanted))
}

#[test]
#[ignore = "needs root"]
fn a_group_is_switched_by_its_name() {
    let serve = Serve::start(&[]);
    let metrics = serve.metrics();
    for family in OFF.iter().flat_map(|(_, families)| *families) {
        assert!(!has(&metrics, family), "{family}");
    }
    for (_, family) in ON {
        assert!(has(&metrics, family), "{family}");
        assert!(metrics.samples(family, &[]).next().is_some(), "{family}");
    }
    serve.stop();
    let groups = |names: &[&str]| names.join(",");
    let off = OFF.map(|(name, _)| name);
    let on = ON.map(|(name, _)| name);
    let switched = [
        "--enable-metrics",
        &*groups(&off),
        "--disable-metrics",
        &*groups(&on),
    ];
    let serve = Serve::start(&switched);
    let metrics = serve.metrics();
    for family in OFF.iter().flat_map(|(_, families)| *families) {
        assert!(has(&metrics, family), "{family}");
    }
    for (_, family) in ON {
        assert!(!has(&metrics, family), "{family}");
    }
    // A limit is there without the group of what it limits.
    assert!(has(&metrics, "container_spec_memory_limit_bytes"));
    serve.stop();
}

/// The descriptors that the processes of a cgroup have open, and those that are sockets.
fn open_files(cgroup: &Cgroup) -> [u64; 2] {
    let mut open = [0; 2];
    for pid in cgroup.members() {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors") {
            let target = fs::read_link(entry.expect("one of them").path()).unwrap_or_default();
            open[0] += 1;
            open[1] += u64::from(target.to_string_lossy().starts_with("socket:"));
        }
    }
    open
}

#[test]
#[ignore = "needs root"]
fn descriptors_and_connections_are_counted() {
    let serve = Serve::start(&["--enable-metrics", "process,tcp,udp"]);
    let container = Container::start(Cgroup::new("open"), "mnt,net");
    let namespace = fs::File::open(format!("/proc/{}/ns/net", container.pid));
    let namespace = namespace.expect("its network namespace");
    let inside = thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("a thread may join it");
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
        (listener, socket)
    });
    let _sockets = inside.join().expect("two sockets");
    let id = container.cgroup.path();
    let metrics = wait_for("its connections are exported", PATIENCE, || {
        let metrics = serve.metrics();
        let labels = [("id", &*id), ("tcp_state", "listen")];
        let found = metrics.find("container_network_tcp_usage_total", &labels);
        found.is_some().then_some(metrics)
    });
    for (family, label, state, wanted) in [
        ("tcp_usage", "tcp_state", "listen", 1),
        ("tcp_usage", "tcp_state", "established", 0),
        ("udp_usage", "udp_state", "listen", 1),
        ("udp_usage", "udp_state", "dropped", 0),
    ] {
        let name = format!("container_network_{family}_total");
        let count = metrics.count(&name, &[("id", &id), (label, state)]);
        assert_eq!(count, wanted, "{name} {state}");
    }
    let [open, sockets] = open_files(&container.cgroup);
    let count = |name| metrics.count(name, &[("id", &id)]);
    assert!(open > 2, "{open}");
    assert_eq!(count("container_file_descriptors"), open);
    assert_eq!(count("container_sockets"), sockets);
    let limits = fs::read_to_string(format!("/proc/{}/limits", container.pid));
    let limits = limits.expect("its limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    let labels = [("id", &*id), ("ulimit", "max_open_files")];
    let exported = metrics.value("container_ulimits_soft", &labels);
    assert_eq!(soft, Some(&*exported.to_string()));
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn states_and_load_are_those_of_the_threads() {
    let serve = Serve::start(&[]);
    let script = "sleep 1000 & kill -STOP $!; while :; do :; done & read";
    let first = First {
        types: "mnt",
        script,
        pid: None,
    };
    let container = Container::run(Cgroup::new("states"), first);
    let id = container.cgroup.path();
    wait_for("one is stopped and one runs", PATIENCE, || {
        let metrics = serve.metrics();
        let state = |state| {
            let labels = [("id", &*id), ("state", state)];
            metrics.find("container_tasks_state", &labels)
        };
        let states = [
            "stopped",
            "running",
            "sleeping",
            "uninterruptible",
            "iowaiting",
        ]
        .map(state);
        (states == [1.0, 1.0, 1.0, 0.0, 0.0].map(Some)).then_some(())
    });
    // The first count of a new cgroup gives 393, the second 632.
    wait_for("the load grows", PATIENCE, || {
        let load = serve
            .metrics()
            .find("container_cpu_load_average_10s", &[("id", &id)])?;
        assert!(load <= 1000.0, "{load}");
        (load > 600.0).then_some(())
    });
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn the_machine_and_the_agent_are_described() {
    let serve = Serve::start(&[]);
    let metrics = serve.metrics();
    let cpus = fs::read_to_string("/proc/cpuinfo").expect("the CPUs");
    let cpus = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    assert_eq!(metrics.count("machine_cpu_cores", &[]), cpus as u64);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the id of the boot");
    let labels = [("boot_id", boot.trim())];
    assert!(metrics.value("machine_memory_bytes", &labels) > (1 << 20) as f64);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's version");
    let kernel = [("kernelVersion", kernel.trim())];
    assert_eq!(metrics.count("cadvisor_version_info", &kernel), 1);
    assert_eq!(metrics.count("machine_scrape_error", &[]), 0);
    let root = statvfs(Path::new("/")).expect("the root file system");
    let sizes = metrics.samples("container_fs_limit_bytes", &[("id", "/")]);
    let sizes: Vec<f64> = sizes.map(|sample| sample.value).collect();
    let size = (root.f_blocks * root.f_frsize) as f64;
    assert!(sizes.contains(&size), "{size} is not among {sizes:?}");

    let status = fs::read_to_string(format!("/proc/{}/status", serve.pid()));
    let status = status.expect("its status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"));
    let threads = line.and_then(|line| line.trim().parse::<f64>().ok());
    let exported = metrics.value("process_threads", &[]);
    assert!(
        (exported - threads.expect("its threads")).abs() <= 2.0,
        "{exported}"
    );
    let resident = metrics.value("process_resident_memory_bytes", &[]);
    assert!(
        resident > (1 << 20) as f64 && resident < (1 << 30) as f64,
        "{resident}"
    );
    assert!(metrics.value("process_cpu_seconds_total", &[]) > 0.0);
    assert!(metrics.value("process_open_fds", &[]) <= metrics.value("process_max_fds", &[]));
    serve.stop();
}
