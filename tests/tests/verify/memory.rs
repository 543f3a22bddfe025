//! Memory: held, shadowed, undone, or not pressed against.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tests::cgroup::Cgroup;
use tests::memory::set_limit;
use tests::serve::Serve;
use tests::slow::load;
use tests::wait::{PATIENCE, wait_for};

use super::{
    MEMORY, Running, check, judged, marker, report, unlimited, verdict, verify, verify_with, write,
};

const LIMIT: u64 = 150 << 20;

/// Twice what fits, again and again.
const TOO_MUCH: &str = "stress-ng --vm 1 --vm-bytes 300M --vm-keep --timeout 5s";

#[test]
#[ignore = "needs root"]
fn a_limit_that_is_run_into_holds() {
    let report = report(verify(&["--memory", "150M", "--"]).args(load(TOO_MUCH)));
    let check = judged(&report, "pass", &["held at 150.0M", "OOM-killed"]);
    assert_killed(&check);
    let intended = &check["intended"];
    assert_eq!(intended["source"], "--memory");
    assert_eq!(intended["value"]["number"], LIMIT as f64);
    assert_eq!(check["written"]["text"], LIMIT.to_string());
    assert_eq!(check["read_back"]["text"], LIMIT.to_string());
    assert_eq!(check["written"]["file"], check["read_back"]["file"]);
    assert_eq!(check["effective"]["cgroup"], report["subject"]["cgroup"]);
}

/// The kernel's count is that of the victims, of whom none is the first process, and the peak is within the limit.
fn assert_killed(check: &Value) {
    let observed = &check["observed"];
    let victims = observed["victims"].as_array().expect("they are traced");
    assert_eq!(observed["oom_kills"], victims.len(), "{check:#}");
    assert!(!victims.is_empty(), "{check:#}");
    for victim in victims {
        assert_eq!(victim["init"], false, "{victim}");
        assert_eq!(victim["limit_owner"], check["effective"]["cgroup"]);
    }
    let peak = observed["peak_bytes"].as_u64().expect("a peak");
    // As much as the printed tolerance: 64 pages of each CPU.
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    let page = rustix::param::page_size();
    assert!(peak <= LIMIT + (64 * page * cpus) as u64, "{check:#}");
    assert!(peak > LIMIT * 9 / 10, "{check:#}");
}

#[test]
#[ignore = "needs root"]
fn a_server_tells_of_the_victims() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let mut verify = verify_with(serve.socket(), "off");
    let report = report(verify.args(["--memory", "150M", "--"]).args(load(TOO_MUCH)));
    assert_killed(&judged(&report, "pass", &[]));
    assert_eq!(report["notes"], serde_json::json!([]));
}

#[test]
#[ignore = "needs root"]
fn what_is_not_pressed_against_is_not_proven() {
    let mut verify = verify(&["--memory", "150M", "--pids-limit", "100", "--for", "500ms"]);
    let report = report(verify.args(["--", "sleep", "100"]));
    assert_eq!(verdict(&report), "inconclusive");
    for limit in ["memory", "pids-limit"] {
        let check = check(&report, limit);
        assert_eq!(check["stimulus"]["pressed"], false, "{check:#}");
        // What would.
        super::assert_verdict(check, "inconclusive", &["stress-ng"]);
    }
    assert_eq!(report["workload"]["exit"], Value::Null);
}

#[test]
#[ignore = "needs root"]
fn a_parent_that_is_tighter_is_named() {
    let parent = Cgroup::new("verify-above");
    set_limit(&parent, 32 << 20);
    let flag = format!("--cgroup-parent={}", parent.path());
    let mut verify = verify(&["--memory=64M", "--for=500ms", &flag]);
    let report = report(verify.args(["--", "sleep", "100"]));
    let check = judged(&report, "fail", &[&parent.path(), "32.0M < 64.0M"]);
    assert_eq!(check["effective"]["cgroup"], parent.path());
    assert_eq!(check["effective"]["value"]["number"], f64::from(32 << 20));
}

/// Writes another limit into the file, which is returned.
fn raise(running: &Running, text: &str) -> PathBuf {
    let [controller, name] = MEMORY;
    let file = running.file(controller, name);
    // v1 keeps it below that of memory and swap.
    let both = file.with_file_name("memory.memsw.limit_in_bytes");
    if both.exists() {
        write(&both, unlimited());
    }
    write(&file, text);
    file
}

#[test]
#[ignore = "needs root"]
fn a_limit_that_is_undone_does_not_hold() {
    let running = Running::start(&["--memory=64M", "--for=2s"]);
    let file = raise(&running, unlimited());
    let words = [&*file.display().to_string(), "during the run", "no limit"];
    judged(&running.report(), "fail", &words);
}

/// Longer than it takes to be seen: there is a look every 50 ms.
const UNDONE: Duration = Duration::from_millis(300);

#[test]
#[ignore = "needs root"]
fn a_limit_that_is_undone_and_done_again_does_not_hold() {
    let running = Running::start(&["--memory=64M", "--for=3s"]);
    let file = raise(&running, &(128_u64 << 20).to_string());
    std::thread::sleep(UNDONE);
    write(&file, &(64_u64 << 20).to_string());
    judged(&running.report(), "fail", &["during the run", "128.0M"]);
}

/// Nobody has to see it: the kernel's peak tells.
#[test]
#[ignore = "needs root"]
fn what_was_used_above_the_limit_is_told_afterwards() {
    let marker = marker();
    let script = "stress-ng --vm 1 --vm-bytes 100M --vm-keep --timeout 60s & sleep $1";
    let mut verify = verify(&["--memory=64M", "--for=6s", "--"]);
    verify.args(["sh", "-c", script, "sh", &marker]);
    let running = Running::of(&mut verify, &marker);
    raise(&running, unlimited());
    let usage = running.file(MEMORY[0], ["memory.usage_in_bytes", "memory.current"]);
    wait_for("more is used than fits", PATIENCE, || {
        let used: u64 = fs::read_to_string(&usage).ok()?.trim().parse().ok()?;
        (used > 80 << 20).then_some(())
    });
    let check = judged(&running.report(), "fail", &[]);
    let peak = check["observed"]["peak_bytes"].as_u64().expect("a peak");
    assert!(peak > 80 << 20, "{check:#}");
}
