//! What runs already: by name, process and cgroup, against what its engine was asked for or what is expected.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tests::agent::agent;
use tests::cgroup::{Cgroup, directory};
use tests::docker::Docker;
use tests::memory::set_limit;
use tests::run::{self, Container};

use super::{
    MEMORY, NOBODY, PIDS, assert_verdict, check, file, judged, report, verdict, verify,
    verify_with, write,
};

const SLEEP: &[&str] = &["sleep", "1000"];

/// Judges a container of docker's by name, with no limit said.
fn of_docker(docker: &Docker, name: &str, flags: &[&str]) -> Value {
    let mut verify = verify_with(NOBODY, docker.socket());
    report(verify.args(["--container", name]).args(flags))
}

#[test]
#[ignore = "needs root"]
fn a_container_of_docker_is_held_against_what_docker_was_asked_for() {
    let docker = Docker::start();
    let flags = ["--memory=64m", "--cpus=0.5", "--pids-limit=50"];
    let container = docker.run(&flags, SLEEP);
    let name = container.inspect("{{.Name}}");
    let name = name.trim_start_matches('/');
    for name in [name, &container.id()[..12]] {
        let report = of_docker(&docker, name, &[]);
        assert_eq!(verdict(&report), "pass", "{report:#}");
        assert_eq!(report["scope"], "configuration");
        assert_eq!(report["subject"]["cgroup"], container.cgroup());
        for (limit, number) in [
            ("memory", f64::from(64 << 20)),
            ("cpu-quota", 0.5),
            ("pids-limit", 50.0),
        ] {
            let check = check(&report, limit);
            assert_eq!(check["intended"]["source"], "docker", "{check:#}");
            assert_eq!(check["intended"]["value"]["number"], number, "{check:#}");
            assert_eq!(check["written"], Value::Null);
        }
    }
    // Nothing presses in that time.
    let report = of_docker(&docker, name, &["--for=2s"]);
    assert_eq!(verdict(&report), "inconclusive", "{report:#}");
    assert_eq!(report["scope"], "run");

    let [controller, files] = MEMORY;
    write(&file(&container.cgroup(), controller, files), "50331648");
    let report = of_docker(&docker, name, &[]);
    assert_verdict(check(&report, "memory"), "fail", &["48.0M", "64.0M"]);
    assert_verdict(check(&report, "pids-limit"), "pass", &[]);
    assert_eq!(verdict(&report), "fail");
}

#[test]
#[ignore = "needs root"]
fn a_workload_of_docker_that_presses_is_proven() {
    let docker = Docker::start();
    let command = ["stress-ng", "--fork", "4", "--fork-max", "64"];
    let container = docker.run(&["--pids-limit=50"], &command);
    let report = of_docker(&docker, container.id(), &["--for=2s"]);
    let check = check(&report, "pids-limit");
    assert_verdict(check, "pass", &["forks refused"]);
}

#[test]
#[ignore = "needs root"]
fn what_docker_was_asked_for_is_inspected() {
    let docker = Docker::start();
    let container = docker.run(&["--memory=64m"], SLEEP);
    let mut inspect = agent(["inspect", container.id(), "--output", "json", "--socket"]);
    let inspect = inspect.arg(NOBODY).arg("--docker-socket");
    let said = run::text(inspect.arg(docker.socket()));
    let report: Value = serde_json::from_str(&said).expect("an object");
    let limits = report["limits"].as_array().expect("a list");
    let memory = limits.iter().find(|limit| limit["limit"] == "memory");
    let memory = memory.expect("memory");
    assert_eq!(memory["intended"], (64 << 20).to_string(), "{memory}");
    let pids = limits.iter().find(|limit| limit["limit"] == "pids-limit");
    // Docker was not asked for one.
    assert!(
        pids.is_none_or(|pids| pids["intended"].is_null()),
        "{pids:?}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_container_of_agent_run_is_held_against_its_flags() {
    let container = Container::new("verify-standing");
    container.start(&["--memory=64m", "--pids-limit=50"], SLEEP);
    let by_name = || report(&mut verify(&["--container", &container.name]));
    let before = by_name();
    assert_eq!(verdict(&before), "pass", "{before:#}");
    let intended = &check(&before, "pids-limit")["intended"];
    assert_eq!(intended["source"], "agent run", "{before:#}");
    let [controller, files] = PIDS;
    let path = format!("/agent/{}", container.name);
    write(&file(&path, controller, files), "60");
    let after = by_name();
    assert_verdict(
        check(&after, "pids-limit"),
        "fail",
        &["60 tasks", "50 tasks"],
    );
    assert_verdict(check(&after, "memory"), "pass", &[]);
}

#[test]
#[ignore = "needs root"]
fn a_record_that_cannot_be_read_proves_nothing() {
    let container = Container::new("verify-unread");
    container.start(&["--memory=64m"], SLEEP);
    let [controller, files] = MEMORY;
    let cgroup = format!("/agent/{}", container.name);
    let limit = file(&cgroup, controller, files);
    let state = Path::new("/run/agent-containers").join(&container.name);
    let by_name = || report(&mut verify(&["--container", &container.name]));
    let by_path = || report(&mut verify(&["--cgroup", &cgroup]));
    write(&limit, &(32 << 20).to_string());
    for (name, look) in [
        ("config.json", &by_name as &dyn Fn() -> Value),
        ("config.json", &by_path),
        ("state.json", &by_path),
    ] {
        let path = state.join(name);
        let whole = fs::read(&path).expect("a record");
        let long = [&whole[..], &b" ".repeat(1 << 20)].concat();
        for damaged in [&long[..], b"{"] {
            fs::write(&path, damaged).expect("it is root's");
            let words = [&*path.to_string_lossy(), "cannot be read"];
            let report = look();
            assert_verdict(check(&report, "memory"), "inconclusive", &words);
            assert_eq!(verdict(&report), "inconclusive", "{report:#}");
        }
        fs::write(&path, whole).expect("it is root's");
    }
    let failed = by_name();
    assert_verdict(check(&failed, "memory"), "fail", &["32.0M", "64.0M"]);
    write(&limit, &(64 << 20).to_string());
    let well = by_name();
    assert_verdict(check(&well, "memory"), "pass", &["set as intended"]);
}

/// A cgroup of memory's hierarchy with a limit, and its forms on the command line.
fn forms(cgroup: &Cgroup, pid: u32) -> [[String; 2]; 3] {
    let directory = directory("memory", cgroup.path());
    [
        ["--pid".to_owned(), pid.to_string()],
        ["--cgroup".to_owned(), cgroup.path()],
        ["--cgroup".to_owned(), directory.display().to_string()],
    ]
}

fn expecting(form: &[String; 2], expected: &[&str]) -> Command {
    let mut verify = verify(&[]);
    verify.args(form);
    for limit in expected {
        verify.args(["--expect", limit]);
    }
    verify
}

#[test]
#[ignore = "needs root"]
fn a_cgroup_is_held_against_what_is_expected() {
    let cgroup = Cgroup::new("verify-cgroup");
    set_limit(&cgroup, 64 << 20);
    cgroup.write("pids", "pids.max", "50");
    let mut process = cgroup.command("sleep");
    let mut process = process.arg("1000").spawn().expect("sleep can be run");
    tests::process::wait_until_it_is(process.id(), "sleep");
    for form in forms(&cgroup, process.id()) {
        let said = report(&mut expecting(&form, &["memory=64M", "pids-limit=50"]));
        assert_eq!(verdict(&said), "pass", "{said:#}");
        let memory = check(&said, "memory");
        assert_eq!(memory["intended"]["source"], "--expect");
        assert_eq!(memory["effective"]["cgroup"], cgroup.path());

        let said = report(&mut expecting(&form, &["memory=150M"]));
        judged(&said, "fail", &["64.0M", "150.0M"]);
        // Nobody says what it should be: files are no witness for themselves.
        let said = report(&mut expecting(&form, &[]));
        assert_eq!(verdict(&said), "inconclusive", "{said:#}");
        let memory = check(&said, "memory");
        assert_eq!(memory["intended"], json!(null));
        assert_verdict(
            memory,
            "inconclusive",
            &["64.0M holds", "nobody says", "--expect"],
        );
    }
    cgroup.kill();
    process.wait().expect("it ends");
}
