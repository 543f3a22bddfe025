//! CPU time.

use serde_json::Value;
use tests::alone;

use super::{judged, report, verify};

fn busy(flags: &[&str], workers: &str) -> Value {
    report(verify(flags).args(["--", "stress-ng", "--cpu", workers]))
}

#[test]
#[ignore = "needs root"]
fn a_quota_holds_one_worker_and_four() {
    let _alone = alone();
    for workers in ["1", "4"] {
        let report = busy(&["--cpus=0.2", "--for=5s"], workers);
        let check = judged(&report, "pass", &["held at 0.2 CPUs", "throttled"]);
        let observed = |field: &str| {
            let number = check["observed"][field].as_f64();
            number.unwrap_or_else(|| panic!("{field}: {check:#}"))
        };
        assert!(observed("throttled_periods") > 0.0, "{check:#}");
        assert!(observed("throttled_seconds") > 0.0, "{check:#}");
        let due = 0.2 * observed("seconds");
        // A period's quota, and a slice of each CPU.
        let cpus = std::thread::available_parallelism().expect("CPUs").get() as f64;
        let slack = (0.02 * due).max(0.02 + 0.005 * cpus);
        assert!(observed("cpu_seconds") <= due + slack, "{check:#}");
        assert!(observed("cpu_seconds") > due / 2.0, "{check:#}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_quota_that_nobody_can_use_up_is_not_proven() {
    let report = busy(&["--cpus=64", "--for=1s"], "1");
    judged(&report, "inconclusive", &["64 CPUs cannot be used up"]);
}

#[test]
#[ignore = "needs root"]
fn a_quota_that_is_not_used_up_is_not_proven() {
    // No thread takes that long to start, in no period.
    let quota = ["--cpu-period=1000000", "--cpu-quota=950000"];
    let mut verify = verify(&[quota[0], quota[1], "--for=2500ms"]);
    let report = report(verify.args(["--", "sleep", "100"]));
    judged(
        &report,
        "inconclusive",
        &["never throttled", "stress-ng --cpu 1"],
    );
}
