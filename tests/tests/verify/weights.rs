//! Siblings that share a CPU.

use serde_json::Value;
use tests::alone;
use tests::cgroup::Cgroup;

use super::{assert_verdict, report, verdict, verify};

fn split(flags: &[&str], command: &[&str]) -> Value {
    report(verify(flags).arg("--").args(command))
}

#[test]
#[ignore = "needs root"]
fn each_gets_its_share() {
    let _alone = alone();
    for (weights, shares) in [
        ("100:300", [(100_u32, 1024_u32), (300, 3072)]),
        ("100:10000", [(100, 1024), (10_000, 102_400)]),
    ] {
        let flag = format!("--weights={weights}");
        let report = split(&[&flag, "--for=10s"], &["stress-ng", "--cpu", "1"]);
        assert_eq!(verdict(&report), "pass", "{report:#}");
        let checks = report["checks"].as_array().expect("a list");
        assert_eq!(checks.len(), shares.len());
        let all: u32 = shares.iter().map(|(weight, _)| weight).sum();
        let used: Vec<f64> = checks.iter().map(cpu_time).collect();
        let whole: f64 = used.iter().sum();
        for ((check, (weight, v1)), used) in checks.iter().zip(shares).zip(used) {
            let kept = if Cgroup::is_v1("cpu") { v1 } else { weight };
            assert_eq!(check["read_back"]["text"], kept.to_string(), "{check:#}");
            let due = whole * f64::from(weight) / f64::from(all);
            assert!(used > 0.0, "{check:#}");
            let slack = (due * 0.05).max(0.02);
            assert!((used - due).abs() <= slack, "{due}: {check:#}");
        }
    }
}

fn cpu_time(check: &Value) -> f64 {
    let time = check["observed"]["cpu_seconds"].as_f64();
    time.unwrap_or_else(|| panic!("{check:#}"))
}

#[test]
#[ignore = "needs root"]
fn who_sleeps_proves_nothing() {
    let report = split(&["--weights=100:300", "--for=500ms"], &["sleep", "100"]);
    assert_eq!(verdict(&report), "inconclusive");
    for check in report["checks"].as_array().expect("a list") {
        assert_verdict(check, "inconclusive", &["wanted the CPU"]);
        assert_eq!(check["stimulus"]["pressed"], false);
    }
}
