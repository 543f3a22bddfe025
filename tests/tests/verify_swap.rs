//! `agent verify` where the machine has swap: a program of its own, as swap is for all that runs meanwhile.

use serde_json::Value;
use tests::agent::agent;
use tests::slow::load;
use tests::swap::Swap;

#[test]
#[ignore = "needs root"]
fn what_does_not_fit_goes_to_swap() {
    let Some(_swap) = Swap::new(256 << 20) else {
        return;
    };
    let mut verify = agent(["verify", "--output", "json", "--docker-socket", "off"]);
    verify.args(["--memory", "64M", "--memory-swap", "512M", "--"]);
    verify.args(load(
        "stress-ng --vm 1 --vm-bytes 128M --vm-keep --timeout 5s",
    ));
    let output = verify.output().expect("agent verify can be run");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut checks = report["checks"].as_array().expect("a list").iter();
    let memory = checks.find(|check| check["limit"] == "memory");
    let reason = memory.expect("the limit")["reason"].as_str().expect("text");
    for words in ["held at 64.0M", "went to swap"] {
        assert!(reason.contains(words), "{words}: {report:#}");
    }
}
