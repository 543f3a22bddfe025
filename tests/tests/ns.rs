//! `agent ns`: every namespace, and who shares it, through the server and alone.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::{fs, io::Write as _, os::unix::fs::symlink};

use serde_json::{Value, json};
use tests::agent::{agent, binary};
use tests::cgroup::Cgroup;
use tests::container::{Container, inode};
use tests::mounts::Mounts;
use tests::process::{Lines, kill, wait_until_it_is};
use tests::program::program;
use tests::serve::Serve;
use tests::wait::PATIENCE;

/// No server is there: the command looks by itself.
const NOBODY: &str = "off";

const TYPES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

fn call(socket: &Path, arguments: &[&str]) -> Output {
    let mut ns = agent(["ns", "--docker-socket", "off", "--socket"]);
    let ns = ns.arg(socket).args(arguments).env("COLUMNS", "80");
    ns.output().expect("agent ns can be run")
}

/// What the command writes.
fn ns(socket: &Path, arguments: &[&str]) -> String {
    let output = call(socket, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert_eq!(stderr, "");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn list(socket: &Path, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["--output", "json"], arguments].concat();
    serde_json::from_str(&ns(socket, &arguments)).expect("a list")
}

/// One that has a network of its own, and one that shares it.
fn two() -> (Container, Container) {
    let first = Container::start(Cgroup::new("first"), "mnt,net,uts");
    let second = Cgroup::new("second");
    let inside = format!("--net={}", first.namespace("net"));
    // A first process with its own mounts in the other's network.
    let script = format!("nsenter {inside} unshare --mount sh -c 'echo runs; read line'");
    let second = Container::run(
        second,
        tests::container::First {
            script: &script,
            ..tests::container::First::default()
        },
    );
    assert_eq!(second.line(), "runs");
    (first, second)
}

#[test]
#[ignore = "needs root"]
fn namespaces_and_who_shares_them() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let (first, second) = two();
    let name = |container: &Container| {
        let name = container.cgroup.name();
        json!({"name": name, "id": name, "runtime": "agent"})
    };
    let net = first.inode("net");
    let own = serve.socket();
    for socket in [&*own, Path::new(NOBODY)] {
        let of_net = list(
            socket,
            &["--type", "net", "--container", first.cgroup.name()],
        );
        let [shared] = &of_net[..] else {
            panic!("{of_net:?}");
        };
        assert_eq!(shared["type"], "net", "{shared}");
        assert_eq!(shared["inode"], net, "{shared}");
        assert_eq!(shared["host"], false, "{shared}");
        assert_eq!(shared["processes"], 2, "{shared}");
        assert_eq!(shared["containers"], json!([name(&first), name(&second)]));
        let owner = json!({
            "pid": first.pid, "comm": "bash", "uid": 0, "container": name(&first),
            "user_namespace": inode("/proc/self/ns/user")
        });
        assert_eq!(shared["owner"], owner, "{shared}");

        let of_pid = list(socket, &["--pid", &first.pid.to_string()]);
        for kind in TYPES {
            let mut found = of_pid.iter().filter(|it| it["type"] == kind);
            let state = found.next().unwrap_or_else(|| panic!("{kind}: {of_pid:?}"));
            assert_eq!(state["inode"], first.inode(kind), "{state}");
            let host = inode(&format!("/proc/self/ns/{kind}"));
            assert_eq!(state["host"], first.inode(kind) == host, "{state}");
        }

        let table = ns(socket, &[]);
        assert!(
            table.lines().all(|line| line.chars().count() <= 80),
            "{table}"
        );
        let line = table.lines().find(|line| line.contains(&net.to_string()));
        let words: Vec<&str> = line.expect("the network").split_whitespace().collect();
        let owner = format!("bash({})", first.pid);
        assert_eq!(words[..5], ["net", &net.to_string(), "2", &owner, "0"]);
        assert!(first.cgroup.name().starts_with(&words[5][..5]), "{words:?}");
    }
    // Strangers come and go meanwhile; these two stay.
    for container in [&first, &second] {
        let arguments = ["--container", container.cgroup.name()];
        let still = |socket| {
            let all = list(socket, &arguments).into_iter();
            all.filter(|state| state["host"] == false)
                .collect::<Vec<_>>()
        };
        assert_eq!(still(&own), still(Path::new(NOBODY)));
    }
}

/// As `ip netns add` leaves it: a network without processes, which a mount holds.
#[test]
#[ignore = "needs root"]
fn what_a_mount_holds_is_there() {
    let directory = tempfile::tempdir().expect("a directory to mount at");
    let mounts = Mounts::new("tmpfs", directory.path());
    let held = directory.path().join("lab");
    let held = held.to_str().expect("UTF-8");
    let script = format!("touch {held} && unshare --net={held} true && stat --format %i {held}");
    let output = mounts.command("sh").args(["-c", &script]).output();
    let inode = String::from_utf8(output.expect("sh can be run").stdout).expect("UTF-8");
    let inode: u32 = inode.trim().parse().expect("the network's inode");

    let serve = Serve::spawn_by(mounts.command(binary()), &["--docker-socket", "off"]);
    serve.wait_until_it_traces();
    for socket in [&*serve.socket(), Path::new(NOBODY)] {
        let look = |arguments: &[&str]| {
            let mut ns = mounts.command(binary());
            ns.args(["ns", "--docker-socket", "off", "--socket"]);
            let output = ns.arg(socket).args(arguments).output();
            let output = output.expect("agent ns can be run");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let all = look(&["--type", "net", "--output", "json"]);
        let all: Vec<Value> = serde_json::from_str(&all).expect("a list");
        let state = all.iter().find(|state| state["inode"] == inode);
        let wanted = json!({
            "type": "net", "inode": inode, "host": false, "processes": 0,
            "owner": null, "containers": [], "mounts": [held],
        });
        assert_eq!(state, Some(&wanted));
        let table = look(&["--type", "net"]);
        let mut lines = table.lines().map(|line| line.split_whitespace().collect());
        let line: Option<Vec<&str>> = lines.find(|words: &Vec<&str>| words[1] == inode.to_string());
        let wanted = ["net", &inode.to_string(), "0", "-", "-", held];
        assert_eq!(line.as_deref(), Some(&wanted[..]), "{table}");
        let plain = dot(&look(&["--type", "net", "--output", "dot"]));
        let edge = format!("edge \"mount {held}\" \"net:[{inode}]\" ");
        assert!(plain.lines().any(|line| line.starts_with(&edge)), "{plain}");
    }
}

/// Namespaces that the main thread of no process is in: a thread's, an open descriptor's, one for children to come, and one
/// that is mounted in another mount namespace.
#[test]
#[ignore = "needs root"]
fn what_else_holds_a_namespace() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let mut thread = Command::new(tests::nscall::binary());
    let (thread, number) = Odd::start(thread.args(["thread", "net"]));
    let file = |path: &str| inode(&format!("/proc/{}/{path}", thread.0.id()));
    let of_thread = file(&format!("task/{number}/ns/net"));

    // Another process keeps a descriptor of a network that nobody is in any more.
    let mut opener = Command::new("bash");
    let script = "unshare -n sh -c 'readlink /proc/self/ns/net; exec sleep 1000' > $1 & \
        until [ -s $1 ]; do sleep 0.01; done; exec 4< /proc/$!/ns/net; kill $!; wait $!; echo $(cat $1); read line";
    let directory = tempfile::tempdir().expect("a directory");
    let written = directory.path().join("net");
    let (opener, network) = Odd::start(opener.args(["-c", script, "bash"]).arg(&written));
    let inode_of = |link: &str| {
        let number = link.split(['[', ']']).nth(1);
        number
            .and_then(|it| it.parse::<u32>().ok())
            .expect("net:[N]")
    };
    let of_descriptor = inode_of(&network);

    let mut later = Command::new("unshare");
    let script = "readlink /proc/self/ns/time_for_children; read line";
    // unshare forks: its own children are in it, it itself is not.
    let (later, _) = Odd::start(later.args(["--time", "--fork", "sh", "-c", script]));
    let of_children = inode(&format!("/proc/{}/ns/time_for_children", later.0.id()));

    let lab = directory.path().join("lab");
    let lab = lab.to_str().expect("UTF-8");
    let script = format!(
        "mount -t tmpfs none {0} && touch {lab} && unshare --net={lab} true && stat --format %i {lab} && read line",
        directory.path().display()
    );
    let mut elsewhere = Command::new("unshare");
    let (elsewhere, mounted) = Odd::start(elsewhere.args(["--mount", "sh", "-c", &script]));
    let of_mount: u32 = mounted.parse().expect("an inode");

    for socket in [&*serve.socket(), Path::new(NOBODY)] {
        let all = list(socket, &[]);
        for (inode, odd, by) in [
            (of_thread, &thread, format!("thread {number}")),
            (of_descriptor, &opener, "descriptor 4".to_owned()),
            (of_mount, &elsewhere, format!("mount {lab}")),
        ] {
            let state = all.iter().find(|state| state["inode"] == inode);
            let state = state.unwrap_or_else(|| panic!("{by} holds {inode}"));
            assert_eq!(state["processes"], 0, "{state}");
            let holders = state["holders"].as_array().expect("holders");
            let held = |it: &Value| it["pid"] == odd.0.id() && it["by"] == *by;
            assert!(holders.iter().any(held), "{by}: {state}");
        }
        // Its children are in that.
        assert!(all.iter().any(|state| state["inode"] == of_children));
        // Those of one process are what it holds, too; of its own it has one of each type.
        for (inode, odd, by) in [
            (of_thread, &thread, format!("thread {number}")),
            (of_descriptor, &opener, "descriptor 4".to_owned()),
            (of_children, &later, "time_for_children".to_owned()),
        ] {
            let pid = odd.0.id().to_string();
            let own = list(socket, &["--pid", &pid]);
            assert_eq!(own.len(), 9, "{by}: {own:#?}");
            let state = own.iter().find(|state| state["inode"] == inode);
            let state = state.unwrap_or_else(|| panic!("{by} holds {inode}: {own:#?}"));
            assert_eq!(state["holders"][0]["by"], *by, "{state}");
            let table = ns(socket, &["--pid", &pid]);
            assert!(table.contains(&by), "{table}");
        }
        let table = ns(socket, &["--type", "net"]);
        let line = table.lines().find(|it| it.contains(&of_thread.to_string()));
        assert!(line.is_some_and(|it| it.contains("thread")), "{table}");
    }

    // The same process is not in all of the host's namespaces.
    let pid = thread.0.id().to_string();
    let mut inspect = agent([
        "inspect",
        "--docker-socket",
        "off",
        "--socket",
        NOBODY,
        &pid,
    ]);
    let output = inspect.output().expect("agent inspect can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("in all of its namespaces"), "{text}");
    assert!(text.contains(&format!("only thread {number} is")), "{text}");
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn the_graph_is_one_that_graphviz_takes() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let (first, second) = two();
    // A process with a namespace of its own that makes no sandbox chooses its name: what has a meaning in the language, and
    // what a terminal would obey.
    let directory = tempfile::tempdir().expect("a directory");
    let link = directory.path().join("\"];e--\\N\x1b");
    symlink(program("cat"), &link).expect("a link");
    let mut odd = Command::new(program("unshare"));
    let odd = odd.arg("--uts").arg(&link).stdin(Stdio::piped());
    let odd = Odd(odd
        .stdout(Stdio::null())
        .spawn()
        .expect("unshare can be run"));
    wait_until_it_is(odd.0.id(), "\"];e--\\N\x1b");
    for socket in [&*serve.socket(), Path::new(NOBODY)] {
        let graph = ns(socket, &["--output", "dot"]);
        assert!(!graph.contains('\x1b'), "{graph}");
        // Its own plain form has a line for each node and edge.
        let plain = dot(&graph);
        let net = format!("\"net:[{}]\"", first.inode("net"));
        for container in [&first, &second] {
            let edge = format!("edge \"agent {}\" {net} ", container.cgroup.name());
            assert!(plain.lines().any(|line| line.starts_with(&edge)), "{plain}");
        }
        let odd = format!("node \"pid {}\"", odd.0.id());
        let line = plain.lines().find(|line| line.starts_with(&odd));
        let line = line.unwrap_or_else(|| panic!("{odd}: {plain}"));
        assert!(line.contains(r#"\"];e--\\N\\x1b\npid"#), "{line}");
    }
}

/// Killed when the test ends.
struct Odd(Child);

impl Odd {
    /// Starts it: its first line.
    fn start(command: &mut Command) -> (Self, String) {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it can be run");
        let lines = Lines::of(child.stdout.take().expect("a pipe"));
        let line = lines.next(PATIENCE).expect("a line");
        (Self(child), line)
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

/// What graphviz makes of a graph.
fn dot(graph: &str) -> String {
    let mut dot = Command::new(program("dot"))
        .arg("-Tplain")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dot can be run");
    let mut stdin = dot.stdin.take().expect("a pipe");
    stdin.write_all(graph.as_bytes()).expect("a reader");
    drop(stdin);
    let output = dot.wait_with_output().expect("the end of dot");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}: {graph}");
    assert!(!stderr.contains("syntax error"), "{stderr}: {graph}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
#[ignore = "needs root"]
fn what_is_not_there_is_told() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    // Above what any kernel gives out.
    let most: u32 = fs::read_to_string("/proc/sys/kernel/pid_max")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .expect("a number");
    let pid = (most + 1).to_string();
    for socket in [&*serve.socket(), Path::new(NOBODY)] {
        for (arguments, words) in [
            (["--pid", &pid], "there is no such process"),
            (["--container", "no-such-one"], "agent ps"),
        ] {
            let output = call(socket, &arguments);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            let [flag, value] = arguments;
            for word in [flag, value, words] {
                assert!(stderr.contains(word), "{word}: {stderr}");
            }
        }
    }
}
