//! Verifiers that are ended: nothing is left of what they launched.

use rustix::process::{Pid, Signal, kill_process};
use tests::root;

use super::Running;

/// Ends a verifier by a signal: how it ended, and what it said.
fn end(signal: Signal) -> (Option<i32>, String) {
    let running = Running::start(&["--memory=64M", "--pids-limit=50"]);
    let Running {
        verifier,
        container,
        ..
    } = running;
    kill_process(Pid::from_child(&verifier), signal).expect("it runs");
    let output = verifier.wait_with_output().expect("it ends");
    container.assert_gone();
    assert_eq!(output.stdout, b"");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn nothing_is_left_of_one_that_is_interrupted() {
    if !root() {
        return;
    }
    let (status, said) = end(Signal::INT);
    assert_eq!(status, Some(2), "{said}");
    assert_eq!(said, "agent: interrupted: no verdict\n");
}

#[test]
fn nothing_is_left_of_one_that_is_terminated() {
    if !root() {
        return;
    }
    end(Signal::TERM);
}

/// Its supervisor sees that it has gone.
#[test]
fn nothing_is_left_of_one_that_is_killed() {
    if !root() {
        return;
    }
    let (status, said) = end(Signal::KILL);
    assert_eq!((status, &*said), (None, ""));
}

#[test]
fn nothing_is_left_of_siblings_whose_verifier_is_killed() {
    if !root() {
        return;
    }
    let Running {
        mut verifier,
        container,
        ..
    } = Running::start(&["--weights=100:300"]);
    let name = container.name.clone();
    // The other one is of the same verifier: its supervisors are all of its children.
    let children = format!("/proc/{0}/task/{0}/children", verifier.id());
    let supervisors = std::fs::read_to_string(children).expect("a process");
    verifier.kill().expect("it runs");
    verifier.wait().expect("it ends");
    container.assert_gone();
    for pid in supervisors.split_whitespace() {
        tests::wait::wait_for("supervisors end", tests::wait::PATIENCE, || {
            let path = std::path::Path::new("/proc").join(pid);
            (!path.exists()).then_some(())
        });
    }
    assert!(!supervisors.trim().is_empty(), "{name}");
}
