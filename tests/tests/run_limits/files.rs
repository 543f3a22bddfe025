//! What is written, and what is not.

use std::fs;

use tests::cgroup::Cgroup;
use tests::disk::Disk;
use tests::run::Container;

use super::{file, refused, text};

const SLEEP: &[&str] = &["sleep", "1000"];

/// Controllers, files and what is in them, on v1 and v2.
const WANTED: &[([&str; 2], [&str; 2], [&str; 2])] = &[
    (
        ["memory", "memory"],
        ["memory.limit_in_bytes", "memory.max"],
        ["52428800", "52428800"],
    ),
    (
        ["memory", "memory"],
        ["memory.memsw.limit_in_bytes", "memory.swap.max"],
        ["83886080", "31457280"],
    ),
    (
        ["memory", "memory"],
        ["memory.soft_limit_in_bytes", "memory.low"],
        ["41943040", "41943040"],
    ),
    (
        ["cpu", "cpu"],
        ["cpu.cfs_quota_us", "cpu.max"],
        ["25000", "25000 50000"],
    ),
    (
        ["cpu", "cpu"],
        ["cpu.cfs_period_us", "cpu.max"],
        ["50000", "25000 50000"],
    ),
    (["cpu", "cpu"], ["cpu.shares", "cpu.weight"], ["512", "59"]),
    (
        ["cpuset", "cpuset"],
        ["cpuset.cpus", "cpuset.cpus"],
        ["0", "0"],
    ),
    (
        ["cpuset", "cpuset"],
        ["cpuset.mems", "cpuset.mems"],
        ["0", "0"],
    ),
    (["pids", "pids"], ["pids.max", "pids.max"], ["50", "50"]),
];

#[test]
#[ignore = "needs root"]
fn each_limit_is_in_its_file() {
    let container = Container::new("limits-files");
    let flags = [
        "--memory=50m",
        "--memory-swap=80m",
        "--memory-reservation=40m",
        "--cpu-quota=25000",
        "--cpu-period=50000",
        "--cpu-shares=512",
        "--cpuset-cpus=0",
        "--cpuset-mems=0",
        "--pids-limit=50",
    ];
    container.start(&flags, SLEEP);
    for (controller, name, wanted) in WANTED {
        let version = usize::from(!Cgroup::is_v1(controller[0]));
        let path = file(&container, *controller, *name);
        assert_eq!(text(&path), wanted[version], "{}", path.display());
    }
}

/// Flags, the file of each on v1, and its key in `io.max` of v2.
const RATES: [(&str, &str, &str); 4] = [
    (
        "--device-read-bps",
        "blkio.throttle.read_bps_device",
        "rbps",
    ),
    (
        "--device-write-bps",
        "blkio.throttle.write_bps_device",
        "wbps",
    ),
    (
        "--device-read-iops",
        "blkio.throttle.read_iops_device",
        "riops",
    ),
    (
        "--device-write-iops",
        "blkio.throttle.write_iops_device",
        "wiops",
    ),
];

#[test]
#[ignore = "needs root"]
fn each_rate_of_a_device_is_in_its_file() {
    let disk = Disk::new();
    let container = Container::new("limits-rates");
    // No two are the same.
    let rates: Vec<_> = (1_u32..).map(|n| 1_000_000 * n).zip(RATES).collect();
    let flags = rates.iter().map(|(rate, (flag, ..))| {
        let device = disk.device.display();
        format!("{flag}={device}:{rate}")
    });
    let flags: Vec<_> = flags.collect();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    container.start(&flags, SLEEP);
    let number = disk.number();
    for (rate, (flag, v1, key)) in rates {
        let text = text(&file(&container, ["blkio", "io"], [v1, "io.max"]));
        let row = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{number} ")));
        let mut words = row.unwrap_or_default().split(' ');
        let wanted = if Cgroup::is_v1("blkio") {
            rate.to_string()
        } else {
            format!("{key}={rate}")
        };
        assert!(words.any(|word| word == wanted), "{flag}: {text}");
    }
}

#[test]
#[ignore = "needs root"]
fn memory_alone_sets_swap_too() {
    let container = Container::new("limits-swap");
    container.start(&["--memory=50m"], SLEEP);
    let name = ["memory.memsw.limit_in_bytes", "memory.swap.max"];
    let path = file(&container, ["memory", "memory"], name);
    let wanted = if Cgroup::is_v1("memory") {
        100 << 20
    } else {
        50 << 20
    };
    assert_eq!(text(&path), wanted.to_string());
}

#[test]
#[ignore = "needs root"]
fn what_only_v2_has() {
    let container = Container::new("limits-v2");
    if Cgroup::is_v1("memory") {
        let said = refused(&mut container.run(&["--memory-high=40m"], &["true"]), 125);
        assert!(said.contains("--memory-high needs cgroup v2"), "{said}");
        container.assert_gone();
        return;
    }
    container.start(&["--memory-high=40m", "--cpu-weight=300"], SLEEP);
    let both = |name| [name, name];
    let high = file(&container, both("memory"), both("memory.high"));
    assert_eq!(text(&high), "41943040");
    let weight = file(&container, both("cpu"), both("cpu.weight"));
    assert_eq!(text(&weight), "300");
}

#[test]
#[ignore = "needs root"]
fn cpu_weights_keep_their_proportions_on_v1() {
    if !Cgroup::is_v1("cpu") {
        tests::skip("needs the cpu controller of v1");
        return;
    }
    let container = Container::new("limits-weight");
    container.start(&["--cpu-weight=300"], SLEEP);
    let path = file(&container, ["cpu", "cpu"], ["cpu.shares", "cpu.weight"]);
    assert_eq!(text(&path), "3072");
}

#[test]
#[ignore = "needs root"]
fn a_limit_that_the_kernel_does_not_take_is_one_line_and_leaves_nothing() {
    for (flag, wanted) in [
        ("--memory=1k", "--memory"),
        ("--memory-swap=50m", "--memory-swap"),
        ("--cpu-quota=999", "--cpu-quota"),
        ("--cpu-shares=1", "--cpu-shares"),
        ("--cpuset-cpus=4000", "--cpuset-cpus"),
        ("--cpuset-mems=900", "--cpuset-mems"),
        ("--device-write-bps=/dev/null:1m", "--device-write-bps"),
    ] {
        let container = Container::new("limits-refused");
        let said = refused(&mut container.run(&[flag], &["true"]), 125);
        assert!(said.contains(wanted), "{flag}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{flag}: {said}");
        container.assert_gone();
    }
}

/// Others' cgroups do not pass a controller on for us.
#[test]
#[ignore = "needs root"]
fn a_parent_without_the_controller_is_named() {
    if Cgroup::is_v1("pids") {
        tests::skip("needs the pids controller of v2, which a cgroup does not give by itself");
        return;
    }
    let parent = Cgroup::new("limits-parent");
    let container = Container::new("limits-child");
    let flag = format!("--cgroup-parent={}", parent.path());
    let outside = parent.path().replace("/agent/", "/limits-outside-");
    let directory = tests::cgroup::directory("pids", &outside);
    fs::create_dir(&directory).expect("a cgroup");
    let outside = format!("--cgroup-parent={outside}");
    let said = refused(
        &mut container.run(&[&outside, "--pids-limit=5"], &["true"]),
        125,
    );
    let control = directory.join("cgroup.subtree_control");
    fs::remove_dir(&directory).expect("nothing is in it");
    assert!(
        said.contains(&format!("echo +pids > {}", control.display())),
        "{said}"
    );
    container.start(&[&flag, "--pids-limit=5"], SLEEP);
    let directory = parent.directory("pids").join("agent");
    let path = directory.join(&container.name).join("pids.max");
    assert_eq!(text(&path), "5");
    drop(container);
}

/// What was made for a container goes with it; what was there already stays.
#[test]
#[ignore = "needs root"]
fn parents_made_for_it_are_removed() {
    let parent = Cgroup::new("limits-keeper");
    let container = Container::new("limits-guest");
    let made = format!("{}/a/b", parent.path());
    let flag = format!("--cgroup-parent={made}");
    for command in ["true", "/etc/passwd"] {
        let _ = container
            .run(&[&flag], &[command])
            .output()
            .expect("it runs");
        let directory = parent.directory("pids");
        assert!(
            directory.is_dir(),
            "{command}: {} stays",
            directory.display()
        );
        assert!(!directory.join("a").exists(), "{command}: a is gone");
    }
    container.start(&[&flag], SLEEP);
    assert!(
        parent
            .directory("pids")
            .join("a/b/agent")
            .join(&container.name)
            .is_dir()
    );
    drop(container);
    assert!(!parent.directory("pids").join("a").exists());
}

/// A device that only the host's administrator may use, made by one who may make device nodes.
#[test]
#[ignore = "needs root"]
fn the_hosts_devices_are_out_of_reach() {
    let container = Container::new("limits-devices");
    let script = "mknod /tmp/mem c 1 1 && ! head -c 1 /tmp/mem && \
                  mknod /tmp/zero c 1 5 && head -c 1 /tmp/zero >/dev/null";
    let tmp = "/tmp:exec,mode=777,dev";
    let mut run = container.run(&["--tmpfs", tmp], &["sh", "-c"]);
    // The applet is not among those of the root file system.
    let output = run
        .arg(script.replace("mknod", "busybox mknod"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Operation not permitted"), "{said}");
}
