//! Whatever is killed, the next command leaves nothing of it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use agent_runtime::launch;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::agent::agent;
use tests::archive::{saved, shell, write};
use tests::cgroup::{Cgroup, roots};
use tests::mounts::compared;
use tests::process::wait_for_end;
use tests::program::program;
use tests::run::{Container, next_command, output, rootfs, text, wait_until_it_runs};
use tests::slow::some;
use tests::wait::{PATIENCE, wait_for};

/// The steps of the supervisor, of which each has a fault point.
const SUPERVISOR: [&str; 12] = [
    "claimed",
    "recorded",
    "prepared",
    "begun",
    "clone",
    "cloned",
    "limited",
    "connected",
    "go",
    "running",
    "ended",
    "removed",
];

/// Those of them that each kind of root file system can make a difference to.
const OF_ROOTS: [&str; 4] = ["prepared", "root", "leave", "running"];

/// Those of `agent exec`, beside its process's own.
const EXEC: [&str; 2] = ["clone", "cloned"];

/// Of one container, whatever can stay: it has its cgroup below others that are made for it, and is on a bridge.
struct Everywhere {
    container: Container,
    parent: Cgroup,
    bridge: String,
    flags: [String; 4],
}

impl Everywhere {
    fn new() -> Self {
        let parent = Cgroup::new("killed");
        let bridge = format!("kb{}", std::process::id());
        let flags = [
            "--net=veth".to_owned(),
            format!("--bridge={bridge}"),
            format!("--cgroup-parent={}/made/for", parent.path()),
            "--memory=64m".to_owned(),
        ];
        Self {
            container: Container::new("step"),
            parent,
            bridge,
            flags,
        }
    }

    /// Runs it on a root, and kills the launcher at a step; nothing is left of it, and its name is free.
    fn assert_gone_after(&self, step: &str, root: &[&str]) {
        let mut run = agent(["run", "--name", &self.container.name]);
        run.args(root).args(&self.flags).arg("pwd");
        let ended = output(compared(&run).env("AGENT_FAULT", step));
        assert_eq!(ended.status.code(), Some(128 + 9), "{step}: {ended:?}");
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(!said.contains("stays"), "{step}: {said}");
        next_command();
        self.assert_gone(step);
        let again = output(&mut run);
        assert!(again.status.success(), "{step}: {again:?}");
        self.assert_gone(step);
    }

    fn assert_gone(&self, step: &str) {
        self.container.assert_gone();
        let bridge = Path::new("/sys/class/net").join(&self.bridge);
        assert!(!bridge.exists(), "{step}: {}", self.bridge);
        for root in roots() {
            let path = self.parent.path();
            let made = root.join(path.trim_start_matches('/')).join("made");
            assert!(!made.exists(), "{step}: {}", made.display());
        }
    }
}

#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_a_launcher_killed_at_any_step() {
    let everywhere = Everywhere::new();
    let root = ["--rootfs", rootfs().to_str().expect("UTF-8")];
    for step in some(SUPERVISOR.into_iter().chain(launch::init_steps()), 12) {
        everywhere.assert_gone_after(step, &root);
    }
    let place = tempfile::tempdir().expect("a directory");
    let image = write(place.path(), "image.tar", &saved(&[shell()], &json!({})));
    for root in [["--bin", "pwd"], ["--rootfs", "host"], ["--image", &image]] {
        for step in some(OF_ROOTS, 2) {
            everywhere.assert_gone_after(step, &root);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_supervisor_that_is_killed_at_a_step_is_told_of() {
    for step in ["claimed", "limited", "mount", "exec"] {
        let container = Container::new("told");
        let mut run = container.run(&["-d"], &["sleep", "1000"]);
        let ended = output(run.env("AGENT_FAULT", step));
        assert_eq!(ended.status.code(), Some(125), "{step}: {ended:?}");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("was killed"), "{step}: {said}");
        next_command();
        container.assert_gone();
    }
}

/// The container goes on without it.
#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_an_exec_that_is_killed() {
    let container = Container::new("exec");
    container.start(&[], &["sleep", "1000"]);
    let before = container.processes();
    let unchanged = || (container.processes() == before).then_some(());
    for step in some(EXEC.into_iter().chain(launch::exec_steps()), 6) {
        let mut exec = container.agent("exec", &[], &["sleep", "1000"]);
        let ended = output(exec.env("AGENT_FAULT", step));
        assert_eq!(ended.status.signal(), Some(9), "{step}: {ended:?}");
        next_command();
        wait_for(&format!("{step}: its process ends"), PATIENCE, unchanged);
    }
    let mut exec = container.agent("exec", &["-u", "7"], &["sleep", "2000"]);
    let mut exec = exec.spawn().expect("the program can be run");
    wait_for("its command runs", PATIENCE, || {
        let processes = container.processes();
        let mut commands = processes.iter().map(|it| it.split_once(": "));
        commands
            .any(|it| it.is_some_and(|(_, command)| command == "sleep 2000 "))
            .then_some(())
    });
    exec.kill().expect("a child");
    wait_for_end(&mut exec, "it is killed");
    wait_for("its command ends", PATIENCE, unchanged);
    text(&mut container.agent("exec", &[], &["true"]));
    text(&mut container.agent("rm", &["-f"], &[]));
    container.assert_gone();
}

/// Neither of it, nor of what it had built, nor of the process that was to enter.
#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_a_launcher_killed_on_its_way_into_a_pid_namespace() {
    let other = Container::new("pids");
    other.start(&[], &["sleep", "1000"]);
    let container = Container::new("joining");
    let share = format!("container:{}", other.name);
    for step in some(
        EXEC.into_iter().chain(["go"]).chain(launch::exec_steps()),
        6,
    ) {
        let mut run = container.run(&["--pid", &share], &["sleep", "1000"]);
        let ended = output(run.env("AGENT_FAULT", step));
        assert_eq!(ended.status.signal(), Some(9), "{step}: {ended:?}");
        next_command();
        container.assert_gone();
    }
    let seen = text(&mut other.agent("exec", &[], &["ps", "-o", "pid,args"]));
    // What has ended has no arguments; it is a zombie until the other's first process reaps it, or ends.
    assert_eq!(seen.matches("sleep 1000").count(), 1, "{seen}");
    text(&mut other.agent("rm", &["-f"], &[]));
}

fn kill(pid: i64) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), Signal::KILL).expect("a process");
}

#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_a_supervisor_that_is_killed() {
    let container = Container::new("supervisor");
    let deaf = ["sh", "-c", "trap '' HUP TERM; (sleep 1000) & sleep 1000"];
    container.start(&["--net", "veth", "--pid", "host"], &deaf);
    kill(container.state()["supervisor"].as_i64().expect("a pid"));
    next_command();
    container.assert_gone();

    let container = Container::new("foreground");
    let mut agent = container.run(&["--net", "veth"], &deaf);
    let mut agent = agent.spawn().expect("the program can be run");
    wait_until_it_runs(&container);
    agent.kill().expect("a child");
    wait_for_end(&mut agent, "it is killed");
    next_command();
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_first_process_that_is_killed_ends_the_container() {
    let container = Container::new("first");
    container.start(&[], &["sleep", "1000"]);
    kill(container.pid().into());
    let code = text(&mut container.agent("wait", &[], &[]));
    assert_eq!(code, "137\n");
    text(&mut container.agent("rm", &[], &[]));
    container.assert_gone();
}

/// The cgroups of the other hierarchies are empty at the end, and removed before this one is looked at.
#[test]
#[ignore = "needs root"]
fn what_is_in_one_hierarchy_only_ends_with_the_container() {
    for root in roots() {
        let container = Container::new("partly");
        container.start(&["--rm"], &["sleep", "1000"]);
        let processes = root.join("agent").join(&container.name);
        let processes = processes.join("cgroup.procs");
        let mut other = Command::new(program("sleep"));
        let mut other = other.arg("1000").spawn().expect("coreutils");
        std::fs::write(&processes, other.id().to_string()).expect("a cgroup");
        let first = Pid::from_raw(container.pid().cast_signed()).expect("a process");
        kill_process(first, Signal::KILL).expect("a process");
        let ended = wait_for_end(&mut other, "what is in one hierarchy");
        assert_eq!(ended.signal(), Some(9), "{}", root.display());
        container.assert_gone();
    }
}
