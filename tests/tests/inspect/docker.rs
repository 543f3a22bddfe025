//! A container of docker.

use std::path::Path;

use serde_json::{Value, json};
use tests::agent::agent;
use tests::docker::Docker;

use crate::{CAPABILITIES, NOBODY, gaps, limit, namespace, still};

/// What it says, where the engine tells names.
fn report(docker: &Docker, target: &str) -> Value {
    let mut inspect = agent(["inspect", target, "--output", "json", "--docker-socket"]);
    inspect.arg(docker.socket()).arg("--socket").arg(NOBODY);
    let output = inspect.output().expect("agent inspect can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("an object")
}

#[test]
#[ignore = "needs root"]
fn a_container_by_name_and_by_id() {
    let docker = Docker::start();
    let limits = ["--memory=64m", "--cpus=0.5", "--pids-limit=50"];
    let container = docker.run(&limits, &["sleep", "1000"]);
    let name = container.inspect("{{.Name}}");
    let name = name.trim_start_matches('/');
    let (id, pid) = (container.id(), container.pid());
    let report = report_of_all(&docker, [name, id, &id[..12], &pid.to_string()]);
    assert_eq!(report["pid"], pid);
    for (field, value) in [
        ("name", name),
        ("id", id),
        ("runtime", "docker"),
        ("image", tests::docker::IMAGE),
    ] {
        assert_eq!(report["container"][field], value, "{report}");
    }
    assert_eq!(
        report["root"]["value"],
        json!({"how": "pivot_root", "path": "/"})
    );
    for kind in ["ipc", "mnt", "net", "pid", "uts"] {
        let found = namespace(&report, kind);
        assert_eq!(found["host"], false, "{found}");
        assert_eq!(found["inode"], container.namespace(kind), "{found}");
    }
    let held = &report["capabilities"]["effective"]["value"];
    assert_eq!(*held, json!(CAPABILITIES));
    assert_eq!(report["seccomp"]["value"], "filter");
    assert_eq!(report["no_new_privs"]["value"], false);
    let memory = limit(&report, "memory");
    assert_eq!(memory["effective"]["value"], (64_u64 << 20).to_string());
    assert_eq!(memory["effective"]["cgroup"], container.cgroup());
    let source = memory["own"]["source"].as_str().expect("a path");
    assert!(
        Path::new(source).starts_with(container.directory("memory")),
        "{source}"
    );
    let told = gaps(&report);
    assert!(told.contains(&"no_new_privs"), "{report}");
    for about in [
        "root",
        "net",
        "seccomp",
        "memory",
        "cpu-quota",
        "pids-limit",
    ] {
        assert!(!told.contains(&about), "{about}: {report}");
    }
}

/// The report, which is the same by whatever the container is asked for.
fn report_of_all(docker: &Docker, targets: [&str; 4]) -> Value {
    let [first, others @ ..] = targets.map(|target| report(docker, target));
    for other in others {
        assert_eq!(still(first.clone()), still(other));
    }
    first
}
