//! What a container of `agent run` has for itself, and what it shares where that is asked: each of the eight namespace
//! types, both ways.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tests::agent::{agent, binary};
use tests::mounts::Mounts;
use tests::run::{Container, rootfs, text};
use tests::shared::{Shared, mount};

/// `agent run` of a shell script, with this host's files.
fn script(container: &Container, flags: &[&str], script: &str) -> Command {
    let mut run = agent(["run", "--name", &container.name, "--rootfs", "host"]);
    run.args(flags).args(["sh", "-c", script]);
    run.stdin(Stdio::null());
    run
}

/// What it prints, without the last line's end.
fn said(flags: &[&str], of: &str) -> String {
    let container = Container::new("isolation");
    text(&mut script(&container, flags, of))
        .trim_end()
        .to_owned()
}

/// One that runs until it is dropped.
fn running(flags: &[&str]) -> Container {
    let container = Container::new("isolation");
    let mut run = agent(["run", "-d", "--name", &container.name, "--rootfs", "host"]);
    text(
        run.args(flags)
            .args(["sleep", "infinity"])
            .stdin(Stdio::null()),
    );
    container
}

/// What a command prints in a container that runs.
fn inside(container: &Container, command: &str) -> String {
    let mut exec = container.agent("exec", &[], &["sh", "-c", command]);
    text(&mut exec).trim_end().to_owned()
}

fn namespace(of: impl std::fmt::Display, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{of}/ns/{kind}")).expect("a namespace")
}

/// The namespace of a kind, as seen in a new container with these flags.
fn namespace_with(flags: &[&str], kind: &str) -> PathBuf {
    said(flags, &format!("readlink /proc/self/ns/{kind}")).into()
}

/// A kind of namespace is a container's own, and another's where that is asked: the host's, that of a container that
/// runs, and one that is named by a file.
fn is_own_or_shared(kind: &str, flag: &str, private: &[&str]) {
    let host = namespace("self", kind);
    let first = running(private);
    let first_has = namespace(first.pid(), kind);
    assert_ne!(first_has, host, "{kind}: of its own");
    assert_ne!(
        namespace_with(private, kind),
        first_has,
        "{kind}: of its own too"
    );
    assert_eq!(
        namespace_with(&[flag, "host"], kind),
        host,
        "{kind}: the host's"
    );
    let of_first = format!("container:{}", first.name);
    assert_eq!(
        namespace_with(&[flag, &of_first], kind),
        first_has,
        "{kind}: the first one's"
    );
    let of_file = format!("ns:/proc/{}/ns/{kind}", first.pid());
    assert_eq!(
        namespace_with(&[flag, &of_file], kind),
        first_has,
        "{kind}: of a file"
    );
    assert_eq!(namespace("self", kind), host, "{kind}: outside unchanged");
}

#[test]
#[ignore = "needs root"]
fn processes_are_its_own_or_shared() {
    is_own_or_shared("pid", "--pid", &[]);
    assert_eq!(said(&[], "echo $$; cd /proc; echo [0-9]*"), "1\n1");
    let first = running(&[]);
    let shared = format!("container:{}", first.name);
    assert_eq!(said(&["--pid", &shared], "cat /proc/1/comm"), "sleep");
    let own = std::process::id();
    let seen = format!("test -d /proc/{own} && echo seen");
    assert_eq!(said(&["--pid", "host"], &seen), "seen");
}

#[test]
#[ignore = "needs root"]
fn mounts_are_its_own_or_propagate() {
    let own = namespace("self", "mnt");
    let before = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let container = running(&["--tmpfs", "/mnt:size=1m"]);
    assert_ne!(namespace(container.pid(), "mnt"), own);
    assert_eq!(
        inside(&container, "readlink /proc/self/ns/mnt"),
        namespace(container.pid(), "mnt").display().to_string(),
        "exec joins it"
    );
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid()));
    let mounts = mounts.expect("mounts");
    assert!(mounts.contains(" /mnt rw,nosuid,nodev,noexec"), "{mounts}");
    for propagation in ["shared:", "master:", "propagate_from:"] {
        assert!(!mounts.contains(propagation), "all are private: {mounts}");
    }
    drop(container);
    let after = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert_eq!(before, after, "the host's are as they were");
}

#[test]
#[ignore = "needs root"]
fn a_volume_receives_mounts_as_asked() {
    // In a mount namespace of its own: nothing of it is seen elsewhere.
    let shared = Shared::new();
    let volume = |propagation: &str| format!("{}:/mnt:{propagation}", shared.path().display());
    let private = running(&["-v", &volume("rprivate")]);
    let slave = running(&["-v", &volume("rslave")]);
    let both = running(&["--cap-add", "SYS_ADMIN", "-v", &volume("rshared")]);
    let below = shared.path().join("below");
    mount(&["-t", "tmpfs", "late", &below.display().to_string()]);
    fs::write(below.join("file"), "").expect("a file");
    let look = "test -e /mnt/below/file && echo seen || echo not";
    assert_eq!(inside(&private, look), "not");
    assert_eq!(inside(&slave, look), "seen");
    assert_eq!(inside(&both, look), "seen");
    inside(&both, "umount /mnt/below");
    assert!(!below.join("file").exists(), "a shared one gives back");
}

#[test]
#[ignore = "needs root"]
fn a_volume_is_read_only_where_asked() {
    let place = tempfile::tempdir().expect("a directory");
    fs::write(place.path().join("file"), "read").expect("a file");
    let volume = |options: &str| format!("{}:/mnt{options}", place.path().display());
    let write = "cat /mnt/file; touch /mnt/new 2>/dev/null && echo written";
    assert_eq!(
        said(&["-v", &volume(":ro")], &format!("{write} || true")),
        "read"
    );
    assert!(!place.path().join("new").exists());
    assert_eq!(said(&["-v", &volume("")], write), "readwritten");
    assert!(place.path().join("new").exists());
}

#[test]
#[ignore = "needs root"]
fn the_network_is_its_own_or_shared() {
    is_own_or_shared("net", "--net", &[]);
    assert_eq!(
        said(&[], "ls /sys/class/net; cat /sys/class/net/lo/flags"),
        "lo\n0x9"
    );
    let host = fs::read_dir("/sys/class/net").expect("interfaces").count();
    assert_eq!(
        said(&["--net", "host"], "ls /sys/class/net | wc -l"),
        host.to_string()
    );
}

#[test]
#[ignore = "needs root"]
fn a_network_namespace_of_ip_netns_is_joined() {
    let name = format!("isolation-{}", std::process::id());
    let netns = |what: &str| {
        let status = Command::new("ip").args(["netns", what, &name]).status();
        assert!(status.expect("ip can be run").success());
    };
    netns("add");
    let up = Command::new("ip")
        .args(["-n", &name, "link", "add", "mine", "type", "dummy"])
        .status();
    let flag = format!("ns:/run/netns/{name}");
    let container = Container::new("isolation");
    let ran = script(&container, &["--net", &flag], "ls /sys/class/net").output();
    netns("delete");
    let seen = String::from_utf8(ran.expect("agent can be run").stdout).expect("UTF-8");
    let mine = up.is_ok_and(|up| up.success());
    // A kernel without dummy interfaces still shows that it is another namespace.
    assert_eq!(seen.contains("mine"), mine, "{seen}");
    assert!(seen.contains("lo"), "{seen}");
}

#[test]
#[ignore = "needs root"]
fn ipc_objects_are_its_own_or_shared() {
    is_own_or_shared("ipc", "--ipc", &[]);
    let queues = "ipcs -q | grep -c 0x || true";
    let first = running(&[]);
    inside(&first, "ipcmk -Q");
    assert_eq!(inside(&first, queues), "1");
    assert_eq!(said(&[], queues), "0", "another sees none");
    let shared = format!("container:{}", first.name);
    assert_eq!(said(&["--ipc", &shared], queues), "1");
}

#[test]
#[ignore = "needs root"]
fn the_host_name_is_its_own_or_shared() {
    is_own_or_shared("uts", "--uts", &[]);
    let hostname = || fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let host = hostname();
    assert_eq!(said(&["--hostname", "box"], "hostname"), "box");
    let first = running(&["--cap-add", "SYS_ADMIN"]);
    assert_eq!(inside(&first, "hostname"), first.name);
    inside(&first, "hostname changed");
    let shared = format!("container:{}", first.name);
    assert_eq!(said(&["--uts", &shared], "hostname"), "changed");
    assert_eq!(said(&["--uts", "host"], "hostname"), host.trim_end());
    assert_eq!(hostname(), host, "outside unchanged");
}

#[test]
#[ignore = "needs root"]
fn cgroups_are_seen_from_its_own_or_from_the_hosts() {
    is_own_or_shared("cgroup", "--cgroupns", &[]);
    let pids = "grep -E ':pids:|^0::' /proc/self/cgroup | sort | head -n 1 | cut -d: -f3";
    assert_eq!(said(&[], pids), "/");
    let container = Container::new("isolation");
    let seen = text(&mut script(
        &container,
        &["--cgroupns", "host"],
        "cat /proc/self/cgroup",
    ));
    let path = format!(":/agent/{}\n", container.name);
    assert!(seen.contains(&path), "{seen}");
}

#[test]
#[ignore = "needs root"]
fn users_are_its_own_or_shared() {
    let map = ["--uid-map", "0:100000:65536"];
    is_own_or_shared("user", "--userns", &map);
    let mapped = said(
        &map,
        "id -u; tr -s ' ' < /proc/self/uid_map; cat /etc/shadow 2>&1 || true",
    );
    assert!(mapped.starts_with("0\n 0 100000 65536\n"), "{mapped}");
    assert!(
        mapped.contains("Permission denied"),
        "the host's files are not its root's: {mapped}"
    );
    let container = running(&map);
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid()));
    let status = status.expect("a status");
    assert!(
        status.contains("\nUid:\t100000\t100000\t100000\t100000\n"),
        "{status}"
    );
    assert!(
        status.contains("\nGid:\t100000\t100000\t100000\t100000\n"),
        "{status}"
    );
    assert_eq!(inside(&container, "id -u"), "0", "exec is in it too");
}

#[test]
#[ignore = "needs root"]
fn users_are_those_of_etc_subuid() {
    // Others' files stay as they are.
    let mounts = Mounts::new("tmpfs", "/etc");
    let write = "for kind in uid gid; do echo 0:200000:7 >/etc/sub$kind; done";
    text(mounts.command("sh").args(["-c", write]));
    let container = Container::new("isolation");
    let mut run = mounts.command(binary());
    run.args([
        "run",
        "--name",
        &container.name,
        "--userns",
        "auto",
        "--rootfs",
    ]);
    run.arg(rootfs())
        .args(["sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map"]);
    let maps = text(&mut run);
    let maps: Vec<_> = maps.split_whitespace().collect();
    assert_eq!(maps, ["0", "200000", "7", "0", "200000", "7"]);
}

#[test]
#[ignore = "needs root"]
fn clocks_are_its_own_or_shared() {
    let day = ["--time-offset", "1d"];
    is_own_or_shared("time", "--time", &day);
    let uptime = |text: &str| -> f64 {
        let first = text.split(' ').next().expect("seconds");
        first.parse().expect("a number")
    };
    let before = uptime(&fs::read_to_string("/proc/uptime").expect("an uptime"));
    let shifted = uptime(&said(&day, "cat /proc/uptime"));
    let after = uptime(&fs::read_to_string("/proc/uptime").expect("an uptime"));
    let is_a_day_later = (before + 86400.0..=after + 86401.0).contains(&shifted);
    assert!(is_a_day_later, "{before} {shifted} {after}");
    assert!(after < before + 80000.0, "outside unchanged");
    let first = running(&day);
    let shared = format!("container:{}", first.name);
    assert!(uptime(&said(&["--time", &shared], "cat /proc/uptime")) >= before + 86400.0);
}
