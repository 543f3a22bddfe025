//! Networks of containers: interfaces, who talks to whom, and nothing left of them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use tests::agent::agent;
use tests::program::program;
use tests::rootfs::Rootfs;
use tests::wait::{PATIENCE, wait_for};

/// A number that no other test has: the third of an address, and in names.
fn number() -> u32 {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    (std::process::id() * 7 + NUMBER.fetch_add(1, Ordering::Relaxed)) % 250 + 2
}

/// Some containers of one test, removed with it.
struct Containers {
    rootfs: Rootfs,
    number: u32,
    names: Vec<String>,
}

impl Containers {
    fn new() -> Self {
        Self {
            rootfs: Rootfs::new(&[]),
            number: number(),
            names: Vec::new(),
        }
    }

    fn run(&self, flags: &[&str], script: &str) -> Output {
        let mut run = agent(["run", "--rm", "--rootfs"]);
        run.arg(self.rootfs.path()).args(flags);
        run.args(["--", "/bin/busybox", "sh", "-c", script]);
        run.output().expect("agent run can be run")
    }

    /// What a script says in a container that is there for it alone.
    fn said(&self, flags: &[&str], script: &str) -> String {
        let output = self.run(flags, script);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{flags:?} {script}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts one that stays.
    fn start(&mut self, flags: &[&str], script: &str) -> String {
        let name = format!(
            "net{}{}",
            self.number,
            (b'a' + self.names.len() as u8) as char
        );
        let mut run = agent(["run", "-d", "--name", &name, "--rootfs"]);
        run.arg(self.rootfs.path()).args(flags);
        let output = run
            .args(["--", "/bin/busybox", "sh", "-c", script])
            .output();
        let output = output.expect("agent run can be run");
        assert!(output.status.success(), "{output:?}");
        self.names.push(name.clone());
        name
    }

    fn exec(name: &str, script: &str) -> String {
        let mut exec = agent(["exec", name, "/bin/busybox", "sh", "-c", script]);
        let output = exec.output().expect("agent exec can be run");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn remove(&mut self, which: impl Fn(&str) -> bool) {
        for name in self.names.iter().filter(|name| which(name)) {
            let removed = agent(["rm", "-f", name]).output();
            let removed = removed.expect("agent rm can be run");
            assert!(removed.status.success(), "{removed:?}");
        }
        self.names.retain(|name| !which(name));
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = agent(["rm", "-f", name]).output();
        }
    }
}

fn ip(words: &[&str]) -> Output {
    let ip = Command::new(program("ip")).args(words).output();
    ip.expect("ip can be run")
}

fn exists(interface: &str) -> bool {
    fs::exists(format!("/sys/class/net/{interface}")).expect("/sys is there")
}

/// What `ip` says of the interfaces of this namespace, busybox's too: names, one a line.
const NAMES: &str = "/bin/busybox ip -o link | /bin/busybox sed 's/^[0-9]*: //; s/[:@].*//'";

#[test]
#[ignore = "needs root"]
fn without_a_network_there_is_a_loopback_interface_and_it_works() {
    let containers = Containers::new();
    for flags in [&[][..], &["--net", "none"]] {
        assert_eq!(containers.said(flags, NAMES), "lo\n");
        let script = "(/bin/busybox nc -l -p 7000 -e /bin/busybox echo heard &)
            for i in 1 2 3 4 5 6 7 8 9; do
                /bin/busybox nc 127.0.0.1 7000 </dev/null 2>/dev/null && break
                /bin/busybox usleep 100000
            done";
        assert_eq!(containers.said(flags, script), "heard\n");
    }
}

#[test]
#[ignore = "needs root"]
fn the_hosts_network_can_be_had() {
    let containers = Containers::new();
    let ours = fs::read_link("/proc/self/ns/net").expect("a namespace");
    let theirs = containers.said(
        &["--net", "host"],
        "/bin/busybox readlink /proc/self/ns/net",
    );
    assert_eq!(theirs.trim(), ours.to_str().expect("text"));
    let other = containers.said(&[], "/bin/busybox readlink /proc/self/ns/net");
    assert_ne!(theirs, other);
}

#[test]
#[ignore = "needs root"]
fn two_containers_on_a_bridge_talk_and_the_bridge_goes_with_them() {
    let mut containers = Containers::new();
    let (net, bridge) = (containers.number, format!("agbr{}", containers.number));
    let [first, second] = [2, 3].map(|host| format!("10.213.{net}.{host}/24"));
    let serve = "while :; do /bin/busybox nc -l -p 7000 -e /bin/busybox echo hello; done";
    let flags = |address| ["--net", "veth", "--ip", address, "--bridge", &bridge];
    let server = containers.start(&flags(&first), serve);
    assert!(exists(&bridge) && exists(&format!("ag-{server}")));
    let ask = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do /bin/busybox nc -w 2 10.213.{net}.2 7000 </dev/null && break
        /bin/busybox usleep 200000; done"
    );
    assert_eq!(containers.said(&flags(&second), &ask), "hello\n");
    assert_eq!(containers.said(&flags(&second), NAMES), "lo\neth0\n");
    // One more that stays: the bridge is theirs until the last of them is gone.
    let client = containers.start(&flags(&second), "/bin/busybox sleep 1000");
    assert_eq!(Containers::exec(&client, &ask), "hello\n");
    let shared = format!("container:{client}");
    let seen = containers.said(&["--net", &shared], "/bin/busybox ip -o -4 addr show eth0");
    assert!(seen.contains(&second), "{seen}");
    containers.remove(|name| name == server);
    assert!(exists(&bridge) && !exists(&format!("ag-{server}")));
    containers.remove(|_| true);
    assert!(!exists(&bridge) && !exists(&format!("ag-{client}")));
}

#[test]
#[ignore = "needs root"]
fn the_host_talks_to_a_container_and_is_its_way_out() {
    let mut containers = Containers::new();
    let (net, bridge) = (containers.number, format!("mybr{}", containers.number));
    // A bridge that is the user's: with an address, and it stays.
    assert!(
        ip(&["link", "add", &bridge, "type", "bridge"])
            .status
            .success()
    );
    let host = format!("10.214.{net}.1/24");
    assert!(ip(&["addr", "add", &host, "dev", &bridge]).status.success());
    assert!(ip(&["link", "set", &bridge, "up"]).status.success());
    let address = format!("10.214.{net}.2/24");
    let flags = ["--net", "veth", "--ip", &address, "--bridge", &bridge];
    let serve = "while :; do /bin/busybox nc -l -p 7000 -e /bin/busybox cat; done";
    let name = containers.start(&flags, serve);
    let routes = Containers::exec(&name, "/bin/busybox ip route");
    assert!(
        routes.contains(&format!("default via 10.214.{net}.1 dev eth0")),
        "{routes}"
    );
    let mut stream = wait_for("the container listens", PATIENCE, || {
        TcpStream::connect((format!("10.214.{net}.2"), 7000)).ok()
    });
    stream.write_all(b"echo\n").expect("a connection");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"echo\n");
    containers.remove(|_| true);
    let stays = exists(&bridge);
    ip(&["link", "del", &bridge]);
    assert!(stays && !exists(&format!("ag-{name}")));
}

#[test]
#[ignore = "needs root"]
fn what_a_killed_supervisor_left_goes_with_the_next_command() {
    let mut containers = Containers::new();
    let bridge = format!("agbr{}", containers.number);
    let name = containers.start(
        &["--net", "veth", "--bridge", &bridge],
        "/bin/busybox sleep 1000",
    );
    let peer = format!("ag-{name}");
    let link = ip(&["-d", "link", "show", &peer]);
    let link = String::from_utf8_lossy(&link.stdout).into_owned();
    assert!(link.contains(&format!("alias agent run {name}")), "{link}");
    // The supervisor is the parent of the container's first process.
    let first = Containers::exec(&name, "/bin/busybox true");
    assert_eq!(first, "");
    let supervisor = supervisor(&name);
    let killed = Command::new("kill").args(["-KILL", &supervisor]).status();
    assert!(killed.expect("kill can be run").success());
    wait_for("its end", PATIENCE, || {
        let stat = fs::read_to_string(format!("/proc/{supervisor}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z")).then_some(())
    });
    wait_for("what it left is cleaned", PATIENCE, || {
        agent(["run", "--rm", "--rootfs"])
            .arg(containers.rootfs.path())
            .args(["--", "/bin/true"])
            .output()
            .expect("agent run can be run");
        (!exists(&peer) && !exists(&bridge)).then_some(())
    });
}

/// The pid of who looks after a container: all that `agent` of this name there is on the host.
fn supervisor(name: &str) -> String {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut supervisors = pids.filter(|pid| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("agent\0run\0-d\0") && line.contains(&format!("--name\0{name}\0"))
    });
    supervisors.next().expect("a supervisor")
}

#[test]
#[ignore = "needs root"]
fn a_namespace_of_ip_netns_can_be_joined() {
    let containers = Containers::new();
    let name = format!("agns{}", containers.number);
    assert!(ip(&["netns", "add", &name]).status.success());
    let dummy = ["-n", &name, "link", "add", "joined0", "type", "veth"];
    let added = ip(&dummy).status.success();
    let net = format!("ns:/run/netns/{name}");
    let output = containers.run(&["--net", &net], NAMES);
    ip(&["netns", "del", &name]);
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(added && seen.contains("joined0"), "{output:?}");
}

#[test]
#[ignore = "needs root"]
fn what_cannot_be_is_told_in_one_line() {
    let containers = Containers::new();
    for (flags, wanted) in [
        (&["--net", "veth", "--bridge", "lo"][..], "lo"),
        (
            &["--net", "veth", "--bridge", "much-too-long-for-it"],
            "much-too-long-for-it",
        ),
        (&["--net", "veth", "--ip", "10.0.0.300/24"], "10.0.0.300/24"),
        (&["--net", "veth", "--ip", "10.0.0.3/33"], "10.0.0.3/33"),
        (&["--net", "none", "--ip", "10.0.0.3/24"], "--ip"),
        (&["--net", "bridged"], "bridged"),
        (&["--net", "ns:/run/netns/nowhere"], "/run/netns/nowhere"),
        (&["--net", "container:nobody"], "nobody"),
        // It fails while its network is made, of which that then fails too.
        (
            &["--net", "veth", "--tmpfs", "/x:size=bad"],
            "mount: /x: Invalid argument",
        ),
    ] {
        let output = containers.run(flags, ":");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{flags:?}: {error}");
        assert!(
            error.contains(wanted) && error.trim().lines().count() == 1,
            "{flags:?}: {error}"
        );
    }
}

/// The launcher makes the interface while the new process mounts. A setting of it waits for that.
#[test]
#[ignore = "needs root"]
fn settings_of_interfaces_are_written_when_those_are_there() {
    let containers = Containers::new();
    let read = |setting: &str| format!("/bin/busybox cat /proc/sys/{setting}");
    for (flags, setting, value) in [
        (&["--net", "veth"][..], "net/ipv4/conf/eth0/forwarding", "1"),
        (&["--net", "veth"], "net/ipv4/neigh/eth0/ucast_solicit", "7"),
        (&["--net", "veth"], "net/ipv4/conf/lo/rp_filter", "2"),
        (&["--net", "veth"], "net/ipv4/conf/all/forwarding", "1"),
        (&["--net", "veth"], "net/ipv4/ip_forward", "1"),
        (&["--net", "none"], "net/ipv4/conf/lo/forwarding", "1"),
        (&["--net", "none"], "net/ipv4/neigh/lo/ucast_solicit", "9"),
    ] {
        let assigned = format!("{setting}={value}");
        let flags = [flags, &["--sysctl", &assigned]].concat();
        assert_eq!(
            containers.said(&flags, &read(setting)).trim(),
            value,
            "{setting}"
        );
    }
    // Whichever of the two is the first, of several.
    let flags = [
        "--net",
        "veth",
        "--sysctl",
        "net.ipv4.conf.eth0.rp_filter=2",
    ];
    for _ in 0..10 {
        let said = containers.said(&flags, &read("net/ipv4/conf/eth0/rp_filter"));
        assert_eq!(said.trim(), "2");
    }
    // What is the host's to allow stays so: the container cannot write it.
    let forwarding = [
        "--net",
        "veth",
        "--sysctl",
        "net/ipv4/conf/eth0/forwarding=1",
    ];
    let script = "echo 0 > /proc/sys/net/ipv4/conf/eth0/forwarding || /bin/busybox echo closed";
    assert_eq!(containers.said(&forwarding, script).trim(), "closed");
    let absent = [
        "--net",
        "none",
        "--sysctl",
        "net/ipv4/conf/eth0/forwarding=1",
    ];
    let output = containers.run(&absent, "true");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("--net veth makes eth0"), "{said}");
}
