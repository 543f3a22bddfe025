//! Sandboxes, which have namespaces of their own and no container's cgroup: one name for each in all commands and in
//! metrics. The names of network namespaces that `ip netns` makes.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tests::agent::{agent, binary};
use tests::container::inode;
use tests::mounts::Mounts;
use tests::process::{Lines, kill};
use tests::program::program;
use tests::run::{output, text};
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

/// No server is there: the command looks by itself.
const NOBODY: &str = "off";

/// A process that waits for its input, and its child in namespaces of its own.
struct Sandbox {
    outside: Child,
    inside: u32,
}

impl Sandbox {
    /// Starts a shell by unshare(1), which stays its parent.
    fn start(types: &[&str]) -> Self {
        let mut unshare = Command::new(program("unshare"));
        unshare.args(types).args(["--fork", "--kill-child"]);
        unshare.args(["sh", "-c", "echo runs; read line"]);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut outside = unshare.spawn().expect("unshare can be run");
        let lines = Lines::of(outside.stdout.take().expect("a pipe"));
        assert_eq!(lines.next(PATIENCE).as_deref(), Some("runs"));
        let pid = outside.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let inside = children.expect("it runs").trim().parse();
        Self {
            outside,
            inside: inside.expect("one child"),
        }
    }

    fn inode(&self, kind: &str) -> u32 {
        inode(&format!("/proc/{}/ns/{kind}", self.inside))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        kill(&mut self.outside);
    }
}

/// The JSON that the command writes.
fn json(socket: &Path, arguments: &[&str]) -> Value {
    let mut agent = agent([arguments[0], "--docker-socket", "off", "--socket"]);
    let agent = agent.arg(socket).args(&arguments[1..]);
    serde_json::from_str(&text(agent.args(["--output", "json"]))).expect("JSON")
}

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    let mut all = list.as_array().expect("a list").iter();
    all.find(|it| it["name"] == name)
}

#[test]
#[ignore = "needs root"]
fn a_sandbox_has_one_name() {
    let serve = Serve::start(&["--docker-socket", "off", "--enable-metrics", "sandbox"]);
    let sandbox = Sandbox::start(&["--mount", "--pid", "--net"]);
    let (outside, inside) = (sandbox.outside.id(), sandbox.inside);
    let name = format!("sandbox-{}", sandbox.inode("pid"));
    for socket in [&*serve.socket(), Path::new(NOBODY)] {
        let list = json(socket, &["ps", "--sandboxes"]);
        let state = named(&list, &name).unwrap_or_else(|| panic!("{name}: {list:#}"));
        assert_eq!(state["kind"], "sandbox", "{state}");
        assert_eq!(state["state"], "running", "{state}");
        // unshare itself is in it, too: one sandbox has one name.
        assert_eq!(state["processes"], 2, "{state}");
        assert_eq!(state["pid"], outside, "{state}");
        assert_eq!(state["memory_usage_bytes"], Value::Null, "{state}");
        let mount = format!("sandbox-{}", sandbox.inode("mnt"));
        assert_eq!(named(&list, &mount), None);
        assert_eq!(named(&json(socket, &["ps"]), &name), None);

        for (target, pid) in [
            (name.clone(), outside),
            (outside.to_string(), outside),
            (inside.to_string(), inside),
        ] {
            let report = json(socket, &["inspect", &target]);
            assert_eq!(report["pid"], pid, "{target}");
            assert_eq!(report["container"]["kind"], "sandbox", "{target}");
            assert_eq!(report["container"]["name"], *name, "{target}");
        }
        let namespaces = json(socket, &["ns", "--container", &name, "--type", "pid"]);
        let namespaces = namespaces.as_array().expect("a list").iter();
        let inodes: Vec<_> = namespaces.map(|it| it["inode"].clone()).collect();
        assert!(inodes.contains(&sandbox.inode("pid").into()), "{inodes:?}");
        let nets = json(socket, &["ns", "--type", "net"]);
        let mut nets = nets.as_array().expect("a list").iter();
        let net = nets.find(|it| it["inode"] == sandbox.inode("net"));
        let users = &net.expect("its network")["containers"];
        assert!(named(users, &name).is_some(), "{users}");
    }
    // In the stream: a process that enters it, and makes a namespace there.
    let arguments = ["--container", &name, "--kind", "unshare"];
    let mut watch = serve.watch(&arguments);
    let mut enter = Command::new(program("nsenter"));
    enter.args([
        "--target",
        &inside.to_string(),
        "--mount",
        "--pid",
        "--",
        "unshare",
    ]);
    text(enter.args(["--uts", "true"]));
    let event = watch.next(PATIENCE, |it| it["kind"] == "unshare");
    assert_eq!(event["container"]["name"], *name, "{event}");

    let metrics = serve.metrics();
    let id = [("id", &*name)];
    assert_eq!(metrics.value("container_processes", &id), 2.0);
    assert!(metrics.value("container_start_time_seconds", &id) > 0.0);
    let mut link = Command::new(program("nsenter"));
    link.args([
        "--target",
        &inside.to_string(),
        "--net",
        "--",
        "ip",
        "link",
        "add",
    ]);
    text(link.args(["name", "one", "type", "veth", "peer", "name", "two"]));
    let interface = [("id", &*name), ("interface", "one")];
    let received = "container_network_receive_bytes_total";
    assert_eq!(serve.metrics().find(received, &interface), Some(0.0));
    drop(sandbox);
    wait_for("its series are gone", PATIENCE, || {
        let metrics = serve.metrics();
        metrics
            .find("container_processes", &id)
            .is_none()
            .then_some(())
    });
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn a_sandbox_without_a_pid_namespace_has_the_name_of_its_mounts() {
    let sandbox = Sandbox::start(&["--mount"]);
    let name = format!("sandbox-{}", sandbox.inode("mnt"));
    let list = json(Path::new(NOBODY), &["ps", "--sandboxes"]);
    let state = named(&list, &name).unwrap_or_else(|| panic!("{name}: {list:#}"));
    assert_eq!(state["processes"], 2, "{state}");
    // A thread of the kernel's, kdevtmpfs, has mounts of its own.
    let all = list.as_array().expect("a list").iter();
    let pids = all
        .filter(|it| it["kind"] == "sandbox")
        .map(|it| it["pid"].to_string());
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(!stat.contains("(kdevtmpfs)"), "{stat}");
    }
    // A network alone makes no sandbox.
    let network = Sandbox::start(&["--net"]);
    let report = json(Path::new(NOBODY), &["inspect", &network.inside.to_string()]);
    assert_ne!(report["container"]["kind"], "sandbox", "{report}");
}

/// A network namespace has the name that `ip netns` gave it, also while processes are in it.
#[test]
#[ignore = "needs root"]
fn a_network_has_the_name_that_ip_netns_gave_it() {
    // It stays empty: what is mounted there is in a mount namespace of this test's own.
    fs::create_dir_all("/run/netns").expect("a directory");
    let mounts = Mounts::new("tmpfs", "/run/netns");
    text(mounts.command("ip").args(["netns", "add", "lab"]));
    let serve = Serve::spawn_by(mounts.command(binary()), &["--docker-socket", "off"]);
    serve.wait_until_it_traces();
    let mut user = mounts.command("ip");
    user.args(["netns", "exec", "lab", "sh", "-c", "echo $$; read line"]);
    let user = user.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut user = user.expect("ip can be run");
    let lines = Lines::of(user.stdout.take().expect("a pipe"));
    let pid = lines.next(PATIENCE).expect("a pid");
    for socket in [&*serve.socket(), Path::new(NOBODY)] {
        let look = |arguments: &[&str]| {
            let mut look = mounts.command(binary());
            look.args([arguments[0], "--docker-socket", "off", "--socket"]);
            text(look.arg(socket).args(&arguments[1..]))
        };
        let json = |arguments: &[&str]| -> Value {
            let arguments = [arguments, &["--output", "json"]].concat();
            serde_json::from_str(&look(&arguments)).expect("JSON")
        };
        let networks = json(&["ns", "--type", "net"]);
        let lab = named(&networks, "lab").unwrap_or_else(|| panic!("{networks:#}"));
        assert_eq!(lab["processes"], 1, "{lab}");
        let host = networks.as_array().expect("a list").iter();
        let mut host = host.filter(|it| it["host"] == true);
        assert!(host.all(|it| it["name"].is_null()), "{networks:#}");
        assert!(look(&["ns", "--type", "net"]).contains("netns:lab"));

        let report = json(&["inspect", &pid]);
        let mut own = report["namespaces"].as_array().expect("a list").iter();
        let net = own.find(|it| it["type"] == "net").expect("a network");
        assert_eq!(net["name"], "lab", "{net}");
        assert!(look(&["inspect", &pid]).contains(" lab "));
        // `ip netns exec` gives the program mounts of its own.
        assert_eq!(report["container"]["kind"], "sandbox", "{report:#}");
    }
    kill(&mut user);
    let mut alone = mounts.command(binary());
    alone.args([
        "ns",
        "--docker-socket",
        "off",
        "--socket",
        NOBODY,
        "--output",
        "json",
    ]);
    let networks = output(alone.args(["--type", "net"]));
    let networks: Value = serde_json::from_slice(&networks.stdout).expect("JSON");
    let lab = named(&networks, "lab").expect("it is mounted still");
    assert_eq!(lab["processes"], 0, "{lab}");
    serve.stop();
}
