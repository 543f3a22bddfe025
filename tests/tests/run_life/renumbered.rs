//! A container ends between the moment at which a command finds its first process and the one at which it looks at that,
//! and another process gets the number.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::program::program;
use tests::run::{Container, text};
use tests::wait::{PATIENCE, wait_for};

/// A process with namespaces of its own.
struct Other(Child);

impl Other {
    /// With this number, which is free.
    fn of(pid: u32) -> Self {
        wait_for("the number is given out again", PATIENCE, || {
            fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("root may");
            let mut other = Command::new(program("unshare"));
            let other = other.args(["--net", "--ipc", "--uts", "sleep", "1000"]);
            // Somebody else may have been quicker.
            let other = Self(other.spawn().expect("util-linux"));
            (other.0.id() == pid).then_some(other)
        })
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What comes of a command that is held at `step` while the number of the container's first process becomes another's.
fn renumbered(container: &Container, command: &mut Command, step: &str) -> Output {
    let command = command.env("AGENT_HOLD", step).stdin(Stdio::null());
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let command = command.spawn().expect("the program can be run");
    let stat = format!("/proc/{}/stat", command.id());
    wait_for("it is held", PATIENCE, || {
        let stat = fs::read_to_string(&stat).expect("a child");
        stat.contains(") T ").then_some(())
    });
    let pid = container.pid();
    text(&mut container.agent("rm", &["-f"], &[]));
    let other = Other::of(pid);
    kill_process(Pid::from_child(&command), Signal::CONT).expect("a process");
    let output = command.wait_with_output().expect("a child");
    drop(other);
    output
}

#[test]
#[ignore = "needs root"]
fn run_joins_no_namespace_of_whoever_got_the_number() {
    for (flag, file) in [("--net", "net"), ("--ipc", "ipc"), ("--uts", "uts")] {
        let named = Container::new("named");
        named.start(&[], &["sleep", "1000"]);
        let joins = Container::new("joins");
        let share = format!("{flag}=container:{}", named.name);
        let shown = format!("/proc/self/ns/{file}");
        let mut run = joins.run(&[&share], &["readlink", &shown]);
        let ended = renumbered(&named, &mut run, "recorded");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(125), "{flag}: {ended:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains(&named.name) && said.contains("has ended"),
            "{said}"
        );
        assert_eq!(ended.stdout, b"");
        joins.assert_gone();
        named.assert_gone();
    }
}

#[test]
#[ignore = "needs root"]
fn exec_looks_at_nobody_who_got_the_number() {
    for flags in [&[][..], &["--user", "root"]] {
        let container = Container::new("left");
        container.start(&[], &["sleep", "1000"]);
        let mut exec = container.agent("exec", flags, &["true"]);
        let ended = renumbered(&container, &mut exec, "found");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(125), "{ended:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains(&container.name) && said.contains("is not running"),
            "{said}"
        );
        container.assert_gone();
    }
}
