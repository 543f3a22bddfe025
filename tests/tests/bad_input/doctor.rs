//! `agent doctor` says what can be traced, and why what cannot.

use tests::agent::agent;

use super::{assert_plain, outcome};

#[test]
#[ignore = "needs root"]
fn the_doctor_finds_every_probe() {
    let (status, json, stderr) = outcome(&mut agent(["doctor", "--output", "json"]));
    assert_eq!((status, &*stderr), (0, ""));
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(report["ready"], true);
    assert_eq!(report["reason"], serde_json::Value::Null);
    let probes = report["probes"].as_array().expect("probes");
    let names = probes
        .iter()
        .map(|it| it["probe"].as_str().expect("a name"));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let all = "attach cgroup_mkdir cgroup_populated cgroup_rmdir exec exit fork oom setns unshare";
    assert_eq!(names.join(" "), all);
    for probe in probes {
        assert_eq!(probe["state"], "attached", "{probe}");
        for other in probe["passed_over"].as_array().expect("mechanisms") {
            assert_ne!(other["mechanism"], probe["mechanism"], "{probe}");
            assert_ne!(other["reason"], "", "{probe}");
        }
    }
    let (status, text, _) = outcome(&mut agent(["doctor"]));
    assert_eq!(status, 0);
    for name in names {
        assert!(text.lines().any(|line| line.starts_with(name)), "{text}");
    }
    assert_plain(&text);
}

#[test]
#[ignore = "needs root"]
fn the_doctor_tries_the_mechanisms_that_are_asked_for() {
    let forced = ["doctor", "--output", "json", "--mechanism", "syscall"];
    let forced = forced.iter().chain(&["--mechanism", "oom=btf"]);
    let (status, json, stderr) = outcome(&mut agent(forced));
    assert_eq!((status, &*stderr), (0, ""));
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let probes = report["probes"].as_array().expect("probes");
    for (name, mechanism) in [("unshare", "syscall"), ("setns", "syscall"), ("oom", "btf")] {
        let probe = probes.iter().find(|it| it["probe"] == name);
        let probe = probe.expect("the probe");
        assert_eq!(
            (&probe["mechanism"], &probe["state"]),
            (&mechanism.into(), &"attached".into())
        );
        assert_eq!(probe["passed_over"], serde_json::json!([]));
    }
    // What cannot be attached is told, and the rest goes on.
    let (status, text, _) = outcome(&mut agent([
        "doctor",
        "--mechanism",
        "syscall",
        "--syscall-probes",
        "off",
    ]));
    assert_eq!(status, 0);
    for name in ["unshare", "setns"] {
        let row = text.lines().find(|line| line.starts_with(name));
        assert!(row.is_some_and(|row| row.ends_with(" off")), "{text}");
    }
}
