//! Cgroups that claim to be containers: what confirms them, and what cannot be done to those that nothing confirms.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::agent::agent;
use tests::cgroup::Cgroup;
use tests::container::Container;
use tests::docker::answers::Answers;
use tests::program::program;
use tests::serve::Serve;
use tests::state::State;
use tests::wait::PATIENCE;

/// Where nobody listens.
const NOBODY: [&str; 4] = ["--docker-socket", "off", "--socket", "off"];

/// A container in a cgroup of the test's own that ends in this path.
fn forged(path: &str) -> Container {
    let cgroup = Cgroup::strangers("claims", path);
    cgroup.write("pids", "pids.max", "50");
    Container::start(cgroup, "mnt,net")
}

fn unique(name: &str) -> String {
    format!("{name}{}", std::process::id())
}

fn listed(arguments: &[&str]) -> Vec<Value> {
    let output = agent(["ps", "--output", "json"]).args(arguments).output();
    let output = output.expect("agent can be run");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn at(states: Vec<Value>, cgroup: &str) -> Value {
    let mut states = states.into_iter();
    let state = states.find(|state| state["cgroup"] == cgroup);
    state.unwrap_or_else(|| panic!("no container at {cgroup}"))
}

/// What the command says on standard error; it fails.
#[track_caller]
fn refused(arguments: &[impl AsRef<std::ffi::OsStr> + std::fmt::Debug]) -> String {
    let output = agent(arguments).output().expect("agent can be run");
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
#[ignore = "needs root"]
fn nobody_enters_or_ends_what_only_claims_to_be_a_container() {
    let name = unique("enter");
    let mut container = forged(&format!("agent/{name}"));
    for command in [
        &["exec", &*name, "true"][..],
        &["stop", &name],
        &["rm", "-f", &name],
        &["wait", &name],
        &["logs", &name],
    ] {
        let said = refused(command);
        assert!(said.contains(&name), "{command:?}: {said}");
    }
    container.tell("");
    container.wait_for_first();
}

#[test]
#[ignore = "needs root"]
fn a_claim_is_shown_as_such_until_its_record_comes() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let mut watch = serve.watch(&["--kind", "container"]);
    let name = unique("later");
    let container = forged(&format!("agent/{name}"));
    let path = container.cgroup.path();
    let start = watch.next(PATIENCE, |record| record["container"]["cgroup"] == *path);
    for (field, wanted) in [("name", &*path), ("id", &path), ("image", "unknown")] {
        assert_eq!(start["container"][field], wanted, "{start}");
    }
    assert_eq!(start["container"]["confirmed"], false, "{start}");
    let socket = serve.socket();
    let socket = [
        "--docker-socket",
        "off",
        "--socket",
        socket.to_str().expect("UTF-8"),
    ];
    assert_eq!(at(listed(&socket), &path)["confirmed"], false);
    let human = agent(["ps"])
        .args(socket)
        .output()
        .expect("agent can be run");
    let human = String::from_utf8_lossy(&human.stdout).into_owned();
    let mut lines = human.lines().filter(|line| line.contains(&path[..20]));
    assert!(lines.any(|line| line.contains("agent?")), "{human}");
    let metrics = serve.metrics();
    assert!(metrics.value("agent_unconfirmed_containers", &[]) >= 1.0);

    let record = State::write(&name, &path);
    let state = at(listed(&socket), &path);
    assert_eq!(
        (&state["name"], &state["confirmed"]),
        (&name.into(), &true.into())
    );
    drop(record);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn what_runc_keeps_confirms_all_cgroups_of_its_container() {
    let directory = tempfile::tempdir().expect("a bundle");
    let rootfs = directory.path().join("rootfs/bin");
    fs::create_dir_all(&rootfs).expect("a root");
    fs::copy(program("busybox"), rootfs.join("busybox")).expect("busybox");
    let print = agent(["run", "--print-spec", "--rootfs"])
        .arg(directory.path().join("rootfs"))
        .args(["--", "/bin/busybox", "sleep", "1000"])
        .output()
        .expect("agent can be run");
    let mut spec: Value = serde_json::from_slice(&print.stdout).expect("JSON");
    // Then runc makes one below its own cgroup in each hierarchy.
    spec["linux"]["cgroupsPath"] = Value::Null;
    fs::write(directory.path().join("config.json"), spec.to_string()).expect("a file");
    // Another test's begins with zeros.
    let id = format!("{:f>64}", std::process::id());
    let runc = |arguments: &[&str]| {
        let mut runc = Command::new(program("runc"));
        let runc = runc.args(arguments).arg(&id).stdin(Stdio::null());
        let ended = runc.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(ended.expect("runc can be run").success(), "{arguments:?}");
    };
    let bundle = directory.path().to_str().expect("UTF-8");
    runc(&["run", "--detach", "--bundle", bundle]);
    let found: Vec<Value> = listed(&NOBODY)
        .into_iter()
        .filter(|state| state["cgroup"].as_str().is_some_and(|it| it.ends_with(&id)))
        .collect();
    runc(&["delete", "--force"]);
    let [state] = &found[..] else {
        panic!("one container: {found:#?}")
    };
    assert_eq!(state["confirmed"], true, "{state}");
    assert_eq!(state["id"], *id, "{state}");
}

#[test]
#[ignore = "needs root"]
fn of_two_with_one_name_the_error_names_both() {
    let own = Container::start(Cgroup::new("both"), "mnt,net");
    let name = own.cgroup.name();
    let id = format!("{:0>64}", std::process::id());
    let other = forged(&format!("docker/{id}"));
    let engine = Answers::start(&id, name, other.pid);
    let (own, other) = (own.cgroup.path(), other.cgroup.path());
    let arguments = [
        "verify",
        "--socket",
        NOBODY[3],
        "--docker-socket",
        engine.socket(),
    ];
    let named = |name: &str| -> Vec<String> {
        let all = [&arguments[..], &["--output", "json", "--container", name]].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let said = refused(&named(name));
    assert!(said.contains(&own) && said.contains(&other), "{said}");
    // Each is had by its cgroup, and the other by its id.
    for name in [&other, &id, &id[..60].to_owned()] {
        let output = agent(named(name)).output().expect("agent can be run");
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{name}: {output:?}"));
        assert_eq!(report["subject"]["cgroup"], *other, "{name}: {report}");
    }
    // Nobody listens any more.
    fs::remove_file(engine.socket()).expect("a socket");
    let said = refused(&named(&id));
    assert!(said.contains("claims"), "{said}");
}
