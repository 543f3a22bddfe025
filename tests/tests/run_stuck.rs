//! Containers in which nothing gets on: what is to join one is told so, and nothing waits for it without end.
//!
//! One at a time, and beside no other tests: as long as a process is stopped on its way into a cgroup, the kernel may keep
//! others waiting that move processes between cgroups, and with them all that fork.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::agent::agent;
use tests::cgroup::{Cgroup, roots};
use tests::run::{Container, output, rootfs, text, wait_until_it_runs};
use tests::wait::{PATIENCE, poll, wait_for};

/// Files that stop what is in a cgroup, what stops it, and what lets it go.
const FREEZERS: [(&str, &str, &str); 2] = [
    ("freezer.state", "FROZEN", "THAWED"),
    ("cgroup.freeze", "1", "0"),
];

/// A cgroup that is stopped; it goes on when this is dropped.
struct Frozen {
    file: PathBuf,
    thawed: &'static str,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = fs::write(&self.file, self.thawed);
    }
}

/// The ways to stop a cgroup that there are here.
fn freezers(path: &str) -> Vec<(PathBuf, &'static str, &'static str)> {
    let mut found = Vec::new();
    for root in roots() {
        for (name, frozen, thawed) in FREEZERS {
            let file = root.join(path.trim_start_matches('/')).join(name);
            if file.exists() {
                found.push((file, frozen, thawed));
            }
        }
    }
    assert!(!found.is_empty(), "{path}: no freezer");
    found
}

fn freeze((file, frozen, thawed): (PathBuf, &'static str, &'static str)) -> Frozen {
    fs::write(&file, frozen).expect("a freezer");
    Frozen { file, thawed }
}

fn assert_refused(ended: &Output, wanted: &[&str]) {
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(125), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for wanted in wanted {
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
#[ignore = "needs root"]
fn exec_into_a_paused_container_says_that_it_is() {
    let _alone = tests::alone();
    let container = Container::new("paused");
    container.start(&[], &["sleep", "1000"]);
    for freezer in freezers(&format!("/agent/{}", container.name)) {
        let frozen = freeze(freezer);
        let ended = output(&mut container.agent("exec", &[], &["true"]));
        let path = frozen.file.parent().expect("a cgroup");
        assert_refused(&ended, &["frozen", path.to_str().expect("UTF-8")]);
        drop(frozen);
        text(&mut container.agent("exec", &[], &["true"]));
    }
    text(&mut container.agent("rm", &["-f"], &[]));
    container.assert_gone();
}

/// It is paused between the look at it and the entry.
#[test]
#[ignore = "needs root"]
fn exec_that_is_held_up_ends_at_a_signal() {
    let _alone = tests::alone();
    let container = Container::new("pausing");
    container.start(&[], &["sleep", "1000"]);
    let signals = [
        (Signal::INT, 128 + 2),
        (Signal::TERM, 128 + 15),
        (Signal::HUP, 128 + 1),
        (Signal::QUIT, 128 + 3),
    ];
    for freezer in freezers(&format!("/agent/{}", container.name)) {
        for (signal, status) in signals {
            let mut exec = container.agent("exec", &[], &["true"]);
            exec.env("AGENT_HOLD", "clone").stderr(Stdio::piped());
            let exec = exec.spawn().expect("the program can be run");
            let pid = Pid::from_raw(exec.id().cast_signed()).expect("a pid");
            let stat = format!("/proc/{}/stat", exec.id());
            let is = |state: &str| {
                let stat = fs::read_to_string(&stat).unwrap_or_default();
                stat.contains(&format!(") {state} ")).then_some(())
            };
            wait_for("it is held", PATIENCE, || is("T"));
            let frozen = freeze(freezer.clone());
            kill_process(pid, Signal::CONT).expect("a process");
            let children = format!("/proc/{0}/task/{0}/children", exec.id());
            wait_for("it waits for the process that enters", PATIENCE, || {
                let children = fs::read_to_string(&children).unwrap_or_default();
                (!children.is_empty() && is("S").is_some()).then_some(())
            });
            kill_process(pid, signal).expect("a process");
            let ended = exec.wait_with_output().expect("a child");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(status), "{said}");
            assert!(said.contains("interrupted"), "{said}");
            drop(frozen);
        }
    }
    // What could not die while it was frozen has died.
    wait_for("all that came is gone", PATIENCE, || {
        (container.processes().len() <= 2).then_some(())
    });
    text(&mut container.agent("exec", &[], &["true"]));
    text(&mut container.agent("rm", &["-f"], &[]));
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn run_below_a_frozen_cgroup_says_that_it_is() {
    let _alone = tests::alone();
    let parent = Cgroup::new("frozen");
    let container = Container::new("below");
    let below = format!("--cgroup-parent={}", parent.path());
    for freezer in freezers(&parent.path()) {
        let frozen = freeze(freezer);
        let mut run = agent(["run", "--name", &container.name, &below, "--rootfs"]);
        let ended = output(run.arg(rootfs()).arg("true").stdin(Stdio::null()));
        assert_refused(&ended, &["frozen", &parent.path()]);
        drop(frozen);
        container.assert_gone();
    }
}

/// The kernel of v1 lets nobody die who is frozen. Output and signals go on while the end is waited for, which takes 10 s.
#[test]
#[ignore = "needs root"]
fn a_foreground_run_whose_process_cannot_die_says_so() {
    let _alone = tests::alone();
    let parent = Cgroup::new("frozen");
    let container = Container::new("undying");
    let below = format!("--cgroup-parent={}", parent.path());
    let mut run = agent(["run", "--name", &container.name, &below, "--rootfs"]);
    run.arg(rootfs()).args(["sleep", "1000"]);
    let run = run.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut run = run.spawn().expect("the program can be run");
    let pid = wait_until_it_runs(&container);
    let mut ways = freezers(&parent.path());
    let v1 = ways
        .iter()
        .position(|(file, ..)| file.ends_with("freezer.state"));
    let frozen = freeze(ways.swap_remove(v1.unwrap_or_default()));
    let launcher = Pid::from_child(&run);
    let status = poll(PATIENCE, || {
        let _ = kill_process(launcher, Signal::INT);
        run.try_wait().expect("a child")
    });
    // Where it waits without end.
    run.kill().expect("a child");
    let status = status.expect("it ends");
    let said = run.wait_with_output().expect("a child").stderr;
    let said = String::from_utf8_lossy(&said);
    if v1.is_some() {
        assert_eq!(status.code(), Some(125), "{said}");
        let words = format!("process {pid}");
        assert!(
            said.contains(&words) && said.contains(&parent.path()),
            "{said}"
        );
    } else {
        assert_eq!(status.code(), Some(137), "{said}");
    }
    drop(frozen);
    output(&mut agent(["wait", "nobody"]));
    container.assert_gone();
}

/// Memory of v1 alone can be without a killer.
#[test]
#[ignore = "needs root"]
fn exec_into_a_container_that_waits_for_memory_says_that_it_does() {
    let _alone = tests::alone();
    let container = Container::new("thirsty");
    container.start(&["-m", "16m"], &["sleep", "1000"]);
    let name = format!("agent/{}/memory.oom_control", container.name);
    let Some(control) = roots().map(|root| root.join(&name)).find(|it| it.exists()) else {
        tests::skip("v2 has no cgroup whose processes wait for memory");
        return;
    };
    fs::write(&control, "1").expect("oom_control");
    let eat = "x=x; while true; do x=$x$x; done";
    let mut eater = container.agent("exec", &[], &["sh", "-c", eat]);
    let mut eater = eater.spawn().expect("the program can be run");
    wait_for("it waits for memory", PATIENCE, || {
        let text = fs::read_to_string(&control).expect("oom_control");
        text.contains("under_oom 1").then_some(())
    });
    // The kernel takes the mark away for a moment whenever some memory is given back: then the entry has no room itself.
    let ended = wait_for("the cgroup says that it waits", PATIENCE, || {
        let ended = output(&mut container.agent("exec", &[], &["true"]));
        assert_refused(&ended, &["memory"]);
        let says_so = String::from_utf8_lossy(&ended.stderr).contains("out of memory");
        says_so.then_some(ended)
    });
    assert_refused(&ended, &["out of memory", "oom_kill_disable"]);
    text(&mut container.agent("rm", &["-f"], &[]));
    let status = eater.wait().expect("a child");
    assert!(
        status.signal().is_some() || status.code() == Some(137),
        "{status}"
    );
    container.assert_gone();
}

/// A container may make cgroups below its own where it is given them to write to; the test makes them in its place.
#[test]
#[ignore = "needs root"]
fn a_container_that_is_frozen_below_its_cgroup_is_ended() {
    let _alone = tests::alone();
    for number in 0.. {
        let container = Container::new("below");
        container.start(&[], &["sleep", "1000"]);
        let mut ways = freezers(&format!("/agent/{}", container.name));
        if number >= ways.len() {
            text(&mut container.agent("rm", &["-f"], &[]));
            return;
        }
        let (file, frozen, thawed) = ways.swap_remove(number);
        let below = file.parent().expect("a directory").join("below");
        fs::create_dir(&below).expect("a cgroup");
        fs::write(below.join("cgroup.procs"), container.pid().to_string()).expect("a member");
        let file = below.join(file.file_name().expect("a name"));
        fs::write(&file, frozen).expect("a freezer");
        // Where the test fails, nothing stays frozen.
        let _thaw = Frozen { file, thawed };
        text(&mut container.agent("rm", &["-f"], &[]));
        container.assert_gone();
    }
}

#[test]
#[ignore = "needs root"]
fn more_cgroups_than_descriptors_hold_up_no_end() {
    let _alone = tests::alone();
    const DESCRIPTORS: usize = 128;
    let container = Container::new("many");
    container.start(&[], &["sleep", "1000"]);
    let own = format!("agent/{}", container.name);
    for root in roots().filter(|root| root.join(&own).exists()) {
        let mut deep = root.join(&own);
        for number in 0..DESCRIPTORS * 2 {
            fs::create_dir(root.join(&own).join(format!("wide{number}"))).expect("a cgroup");
            deep.push("d");
            fs::create_dir(&deep).expect("a cgroup");
        }
    }
    let mut remove = std::process::Command::new(tests::program::program("prlimit"));
    remove.arg(format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}"));
    remove.arg(tests::agent::binary());
    text(remove.args(["rm", "-f", &container.name]));
    container.assert_gone();
}
