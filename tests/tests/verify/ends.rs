//! Verifiers that are ended: nothing is left of what they launched.

use std::fs;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::wait::{PATIENCE, wait_for};

use super::{Running, of, verdict, verify};

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
#[ignore = "needs root"]
fn nothing_is_left_of_one_that_is_interrupted() {
    let (status, said) = end(Signal::INT);
    assert_eq!(status, Some(2), "{said}");
    assert_eq!(said, "agent: interrupted: no verdict\n");
}

#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_one_that_is_terminated() {
    end(Signal::TERM);
}

/// Its supervisor sees that it has gone.
#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_one_that_is_killed() {
    let (status, said) = end(Signal::KILL);
    assert_eq!((status, &*said), (None, ""));
}

#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_siblings_whose_verifier_is_killed() {
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

/// A verifier whose standard error nobody reads, though the workload writes more there than a pipe takes.
fn unread(arguments: &[&str], script: &str) -> Child {
    let mut verify = verify(&["--memory=64M"]);
    verify.args(arguments).args(["--", "sh", "-c", script]);
    verify.stdout(Stdio::piped()).stderr(Stdio::piped());
    verify.spawn().expect("it can be run")
}

#[test]
#[ignore = "needs root"]
fn a_workload_is_ended_whose_output_nobody_reads() {
    let mut verifier = unread(&["--for=500ms"], "while :; do echo 0123456789; done");
    wait_for("the verifier ends", PATIENCE, || {
        verifier.try_wait().expect("a child").map(drop)
    });
    let output = verifier.wait_with_output().expect("it has ended");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(verdict(&report), "inconclusive", "{report:#}");
    of(report["subject"]["name"].as_str().expect("a name")).assert_gone();
}

/// The command has ended, and what it wrote waits for who does not read it.
#[test]
#[ignore = "needs root"]
fn a_signal_ends_the_wait_for_output_to_be_read() {
    // One pipe holds 64 KiB: that of standard error, and the container's own.
    let verifier = unread(&[], "head -c 100000 /dev/zero");
    let pid = Pid::from_child(&verifier);
    let children = |pid: &str| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        fs::read_to_string(path).unwrap_or_default()
    };
    let ended = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") Z ")
    };
    let supervisor = wait_for("the command has ended", PATIENCE, || {
        let supervisors = children(&verifier.id().to_string());
        let supervisor = supervisors.split_whitespace().next()?.to_owned();
        ended(children(&supervisor).trim_end()).then_some(supervisor)
    });
    kill_process(pid, Signal::INT).expect("it runs");
    wait_for("the supervisor ends", PATIENCE, || {
        let path = format!("/proc/{supervisor}");
        (ended(&supervisor) || !fs::exists(path).expect("/proc")).then_some(())
    });
    // What it has to say itself waits for the same reader.
    let output = verifier.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.ends_with("agent: interrupted: no verdict\n"),
        "{}",
        said.len()
    );
}
