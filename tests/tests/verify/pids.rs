//! Processes and threads.

use serde_json::Value;
use tests::slow::load;

use super::{PIDS, Running, judged, report, verify, write};

fn limited(flags: &[&str], command: &[&str]) -> Value {
    report(
        verify(&["--pids-limit=50"])
            .args(flags)
            .arg("--")
            .args(command),
    )
}

fn assert_held(report: &Value) {
    let check = judged(report, "pass", &["held at 50 tasks", "EAGAIN"]);
    let observed = &check["observed"];
    let number = |field: &str| observed[field].as_u64().expect("a number");
    assert!(number("refused") > 0, "{check:#}");
    assert!(number("peak") <= 50, "{check:#}");
    // The host can still fork.
    let status = std::process::Command::new("true").status();
    assert!(status.is_ok_and(|status| status.success()));
}

#[test]
#[ignore = "needs root"]
fn forks_beyond_the_limit_are_refused() {
    let command = load("stress-ng --fork 8 --fork-max 64 --timeout 3s");
    let command: Vec<&str> = command.iter().map(|word| &**word).collect();
    assert_held(&limited(&[], &command));
}

#[test]
#[ignore = "needs root"]
fn a_fork_bomb_is_held() {
    assert_held(&limited(
        &["--for=4s"],
        &["sh", "-c", "b() { b | b & }; b; sleep 100"],
    ));
}

#[test]
#[ignore = "needs root"]
fn few_forks_prove_nothing() {
    // 17 processes.
    let report = limited(&[], &["stress-ng", "--fork", "8", "--timeout", "1s"]);
    let check = judged(&report, "inconclusive", &["of 50 tasks", "--fork-max"]);
    assert_eq!(check["observed"]["refused"], 0);
}

#[test]
#[ignore = "needs root"]
fn a_limit_that_is_undone_does_not_hold() {
    let running = Running::start(&["--pids-limit=50", "--for=2s"]);
    let [controller, name] = PIDS;
    write(&running.file(controller, name), "max");
    judged(&running.report(), "fail", &["during the run", "no limit"]);
}
