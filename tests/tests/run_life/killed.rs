//! Whatever is killed, the next command leaves nothing of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use rustix::process::{Pid, Signal, kill_process};
use tests::process::wait_for_end;
use tests::run::{Container, next_command, output, wait_until_it_runs};

/// The steps of the supervisor, of which each has a fault point.
const SUPERVISOR: [&str; 12] = [
    "claimed",
    "recorded",
    "prepared",
    "limited",
    "clone",
    "cloned",
    "attached",
    "connected",
    "go",
    "running",
    "ended",
    "removed",
];

/// The steps of a first process: the table of them is read, so that none is forgotten.
fn steps() -> Vec<&'static str> {
    let table = include_str!("../../../agent/src/runtime/launch/child.rs");
    let (_, table) = table.split_once("pub const FIRST").expect("the table");
    let (table, _) = table.split_once("];").expect("its end");
    let names = table.split("Step::new(").skip(1);
    let names = names.map(|step| step.split(',').next().expect("a name").trim());
    let names = names.map(|name| {
        if name == "EXEC" {
            "exec"
        } else {
            name.trim_matches('"')
        }
    });
    let steps: Vec<_> = names.collect();
    assert!(steps.len() > 10, "{steps:?}");
    steps
}

/// What is mounted here.
fn mounts() -> BTreeSet<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    mounts.lines().map(str::to_owned).collect()
}

#[test]
fn nothing_is_left_of_a_launcher_killed_at_any_step() {
    if !tests::root() {
        return;
    }
    for step in SUPERVISOR.into_iter().chain(steps()) {
        let container = Container::new("step");
        let flags = ["--net", "veth", "--memory", "64m"];
        let before = mounts();
        let mut run = container.run(&flags, &["sh", "-c", "true"]);
        let ended = output(run.env("AGENT_FAULT", step));
        assert_eq!(ended.status.signal(), Some(9), "{step}: {ended:?}");
        next_command();
        container.assert_gone();
        let left: Vec<_> = mounts().difference(&before).cloned().collect();
        let left: Vec<_> = left
            .iter()
            .filter(|mount| mount.contains(&container.name))
            .collect();
        assert!(left.is_empty(), "{step}: {left:?}");
        // Its name is free.
        let again = output(&mut container.run(&flags, &["true"]));
        assert!(again.status.success(), "{step}: {again:?}");
    }
}

#[test]
fn a_supervisor_that_is_killed_at_a_step_is_told_of() {
    if !tests::root() {
        return;
    }
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

fn kill(pid: i64) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), Signal::KILL).expect("a process");
}

#[test]
fn nothing_is_left_of_a_supervisor_that_is_killed() {
    if !tests::root() {
        return;
    }
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
fn a_first_process_that_is_killed_ends_the_container() {
    if !tests::root() {
        return;
    }
    let container = Container::new("first");
    container.start(&[], &["sleep", "1000"]);
    kill(container.pid().into());
    let code = tests::run::text(&mut container.agent("wait", &[], &[]));
    assert_eq!(code, "137\n");
    tests::run::text(&mut container.agent("rm", &[], &[]));
    container.assert_gone();
}
