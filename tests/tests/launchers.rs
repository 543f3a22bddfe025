//! Containers whose engine no socket is asked about: what their launcher leaves on disk has their names, pods and limits.

use std::fs;

use serde_json::{Value, json};
use tests::agent::agent;
use tests::cgroup::Cgroup;
use tests::containerd::{Containerd, CtrContainer};
use tests::serve::Serve;
use tests::wait::{PATIENCE, poll, wait_for};

/// As the kubelet has containerd start a container.
fn as_of_a_pod(config: &mut Value) {
    config["annotations"] = json!({
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": "nginx",
        "io.kubernetes.cri.image-name": "docker.io/library/nginx:1.27",
        "io.kubernetes.cri.sandbox-name": "web-0",
        "io.kubernetes.cri.sandbox-namespace": "prod",
    });
    config["linux"]["resources"] = json!({
        "memory": {"limit": 64 << 20},
        "cpu": {"quota": 50_000, "period": 100_000},
        "pids": {"limit": 50},
        "hugepageLimits": [],
    });
}

fn state(serve: &Serve, container: &CtrContainer<'_>) -> Value {
    let states: Vec<Value> =
        serde_json::from_str(&serve.get("/v1/containers").body).expect("a list");
    let mut states = states.into_iter();
    let state = states.find(|it| it["cgroup"] == container.cgroup());
    state.unwrap_or_else(|| panic!("{} is not listed", container.id()))
}

fn drifting(serve: &Serve, container: &CtrContainer<'_>) -> Vec<String> {
    let metrics = serve.metrics();
    let cgroup = container.cgroup();
    let labels = [("id", &*cgroup)];
    let samples = metrics.samples("agent_limit_drift", &labels);
    let drifting = samples.filter(|it| it.value == 1.0);
    drifting.map(|it| it.labels["limit"].clone()).collect()
}

#[test]
#[ignore = "needs root"]
fn a_container_of_ctr_has_what_its_bundle_says() {
    let engine = Containerd::start();
    // One that a scan finds, and one that an event tells of.
    let before = engine.run("launchers-before", as_of_a_pod);
    let serve = Serve::start(&["--docker-socket", "off"]);
    let mut watch = serve.watch(&["--kind", "container"]);
    let after = engine.run("launchers-after", as_of_a_pod);
    let start = watch.next(PATIENCE, |record| {
        record["action"] == "start" && record["container"]["cgroup"] == after.cgroup()
    });
    let pod = json!({"namespace": "prod", "pod": "web-0", "container": "nginx"});
    for said in [
        &start["container"],
        &state(&serve, &before),
        &state(&serve, &after),
    ] {
        assert_eq!(said["name"], "web-0/nginx", "{said:#}");
        assert_eq!(said["image"], "docker.io/library/nginx:1.27", "{said:#}");
        assert_eq!(said["pod"], pod, "{said:#}");
        assert_eq!(said["confirmed"], true, "{said:#}");
    }
    let cgroup = after.cgroup();
    let labels = [
        ("id", &*cgroup),
        ("name", "web-0/nginx"),
        ("namespace", "prod"),
        ("pod", "web-0"),
        ("container", "nginx"),
    ];
    let metrics = serve.metrics();
    assert_eq!(metrics.samples("container_processes", &labels).count(), 1);

    // The limits that it was started with are the intended ones.
    let intended = &state(&serve, &after)["intended"];
    assert_eq!(intended["source"], "bundle", "{intended:#}");
    assert_eq!(drifting(&serve, &after), [""; 0]);
    let mut verify = agent(["verify", "--output", "json", "--docker-socket", "off"]);
    let verify = verify
        .args(["--socket", "off", "--cgroup", &cgroup])
        .output();
    let verify = verify.expect("agent can be run");
    let report: Value =
        serde_json::from_slice(&verify.stdout).unwrap_or_else(|_| panic!("{verify:?}"));
    assert_eq!(report["verdict"], "pass", "{report:#}");
    for check in report["checks"].as_array().expect("a list") {
        assert_eq!(check["intended"]["source"], "the OCI bundle", "{check:#}");
    }
    let limit = match Cgroup::is_v1("memory") {
        true => "memory.limit_in_bytes",
        false => "memory.max",
    };
    let file = tests::cgroup::directory("memory", &cgroup).join(limit);
    fs::write(file, "33554432").expect("the kernel takes it");
    let found = poll(PATIENCE, || {
        (drifting(&serve, &after) == ["memory"]).then_some(())
    });
    assert!(found.is_some(), "{:?}", drifting(&serve, &after));
}

#[test]
#[ignore = "needs root"]
fn a_container_of_ctr_without_annotations_has_its_id_for_a_name() {
    let engine = Containerd::start();
    let container = engine.run("launchers-plain", |_| {});
    let ps = || -> Option<Value> {
        let mut ps = agent(["ps", "--output", "json", "--docker-socket", "off"]);
        let output = ps
            .args(["--socket", "off"])
            .output()
            .expect("agent can be run");
        let states: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
        states
            .into_iter()
            .find(|it| it["cgroup"] == container.cgroup())
    };
    let state = wait_for("it is listed", PATIENCE, ps);
    assert_eq!(state["name"], container.id(), "{state:#}");
    assert_eq!(state["runtime"], "containerd", "{state:#}");
    assert_eq!(state["pod"], Value::Null, "{state:#}");
}
