//! The engine's own names and images, on events and series.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::agent::agent;
use tests::docker::{Container, Docker, IMAGE, is_connected};
use tests::serve::Serve;
use tests::slow::longer;
use tests::wait::{PATIENCE, wait_for};
use tests::watch::Watch;

use crate::{mentions, state};

#[test]
#[ignore = "needs root"]
fn what_is_looked_at_without_a_server_has_names_too() {
    let docker = Docker::start();
    let container = docker.run(&["--name", "alone"], &["sleep", "1000"]);
    let socket = docker.socket();
    let look = |command: &str| -> Vec<Value> {
        let mut look = agent([command, "--output", "json", "--socket", "off"]);
        let look = look.arg("--docker-socket").arg(&socket).output();
        let look = look.expect("agent can be run");
        assert!(look.status.success(), "{look:?}");
        serde_json::from_slice(&look.stdout).expect("a list")
    };
    let mut states = look("ps").into_iter();
    let state = states.find(|state| state["id"] == container.id());
    let state = state.expect("the container");
    assert_eq!(
        (&state["name"], &state["image"]),
        (&json!("alone"), &json!(IMAGE))
    );
    assert_eq!(state["pid"], container.pid(), "{state}");
    assert_eq!(state["processes"], 1, "{state}");
    let net = container.namespace("net");
    let mut namespaces = look("ns").into_iter();
    let net = namespaces.find(|it| it["type"] == "net" && it["inode"] == net);
    let net = net.expect("its network");
    let name = json!({"name": "alone", "id": container.id(), "runtime": "docker"});
    assert_eq!(net["containers"], json!([name]), "{net}");
    assert_eq!(net["owner"]["container"], name, "{net}");

    let mut watch = Watch::spawn(
        Path::new("off"),
        &[
            "--container",
            "alone",
            "--docker-socket",
            socket.to_str().expect("UTF-8"),
        ],
    );
    // It traces, and knows the name, as soon as it tells of this.
    let record = wait_for("the tracer sees it", PATIENCE, || {
        container.exec(&["true"]);
        watch.take().into_iter().next()
    });
    let mut found = Vec::new();
    mentions(&record, container.id(), &mut found);
    assert!(!found.is_empty(), "{record}");
    for container in found {
        assert_eq!(container["name"], "alone", "{record}");
    }
}

#[test]
#[ignore = "needs root"]
fn an_engine_that_comes_later_names_what_runs_already() {
    let docker = Docker::start();
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let socket = directory.path().join("docker.sock");
    let serve = Serve::start(&["--docker-socket", socket.to_str().expect("UTF-8")]);
    let container = docker.run(
        &["--network", "none", "--name", "before"],
        &["sleep", "1000"],
    );
    assert_is_claim(&serve, &container);
    assert!(!is_connected(&serve.metrics()));
    let labels = [("engine", "docker")];
    assert_eq!(
        serve.metrics().count("agent_engine_errors_total", &labels),
        0
    );

    symlink(docker.socket(), &socket).expect("a link");
    wait_until_called(&serve, &container, "before");
    let mut watch = serve.watch(&["--container", "after"]);
    docker.call(&["rename", container.id(), "after"]);
    wait_until_called(&serve, &container, "after");
    container.kill();
    let stop = watch.next(PATIENCE, |record| record["kind"] == "container");
    assert_eq!(stop["action"], "stop", "{stop}");
    assert_eq!(stop["container"]["image"], IMAGE, "{stop}");
}

#[test]
#[ignore = "needs root"]
fn an_engine_that_never_answers_delays_nothing() {
    let docker = Docker::start();
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let socket = directory.path().join("docker.sock");
    // The kernel takes the connections.
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let started = Instant::now();
    let serve = Serve::start(&["--docker-socket", socket.to_str().expect("UTF-8")]);
    let took = started.elapsed();
    assert!(
        took < longer(Duration::from_secs(5)),
        "ready after {took:?}"
    );
    let container = docker.create(&[], &["sleep", "1000"]);
    let mut watch = serve.watch(&["--kind", "container"]);
    container.start();
    watch.next(PATIENCE, |record| {
        record["action"] == "start" && record["container"]["cgroup"] == container.cgroup()
    });
    assert_is_claim(&serve, &container);
    assert!(!is_connected(&serve.metrics()));
    wait_for("its silence is counted", 2 * PATIENCE, || {
        let labels = [("engine", "docker")];
        let errors = serve.metrics().count("agent_engine_errors_total", &labels);
        (errors > 0).then_some(())
    });
    assert!(serve.log().contains("did not answer"), "{}", serve.log());
    let started = Instant::now();
    serve.stop();
    let took = started.elapsed();
    assert!(
        took < longer(Duration::from_secs(2)),
        "stopped after {took:?}"
    );
}

#[track_caller]
fn assert_called(serve: &Serve, container: &Container<'_>, name: &str, image: &str) {
    let state = state(serve, container);
    assert_eq!(
        (&state["name"], &state["image"]),
        (&json!(name), &json!(image))
    );
}

/// The engine's records are in a place of the test's own, so without the engine nothing confirms what the path says.
#[track_caller]
fn assert_is_claim(serve: &Serve, container: &Container<'_>) {
    assert_called(serve, container, &container.cgroup(), "unknown");
    let state = state(serve, container);
    assert_eq!(state["confirmed"], false, "{state}");
}

fn wait_until_called(serve: &Serve, container: &Container<'_>, name: &str) {
    wait_for("it has that name", PATIENCE, || {
        (state(serve, container)["name"] == name).then_some(())
    });
    assert_called(serve, container, name, IMAGE);
}
