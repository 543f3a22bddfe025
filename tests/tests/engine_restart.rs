//! An engine that is killed and started again, and one that answers no more. It is the only test here: the engine is its own.

use std::process::Command;

use serde_json::Value;
use tests::docker::Docker;
use tests::program::program;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

#[test]
#[ignore = "needs root"]
fn an_engine_that_was_killed_is_heard_again() {
    let docker = Docker::start();
    let socket = docker.socket();
    let serve = Serve::start(&["--docker-socket", socket.to_str().expect("UTF-8")]);
    let first = docker.run(&["--name", "first"], &["sleep", "1000"]);
    assert_eq!(name(&serve, first.id()).as_deref(), Some("first"));
    let labels = [("engine", "docker")];
    let connected = || serve.metrics().count("agent_engine_connected", &labels);

    docker.restart(|| {
        wait_for("it is missed", PATIENCE, || {
            (connected() == 0).then_some(())
        });
        // The container is not, nor its name, and all else goes on.
        assert_eq!(name(&serve, first.id()).as_deref(), Some("first"));
        let mut watch = serve.watch(&["--kind", "unshare", "--comm", "unshare"]);
        let status = Command::new(program("unshare"))
            .args(["-u", "true"])
            .status();
        assert!(status.expect("unshare can be run").success());
        watch.next(PATIENCE, |record| record["kind"] == "unshare");
    });
    wait_for("it is heard again", PATIENCE, || {
        (connected() == 1).then_some(())
    });
    let second = docker.run(&["--name", "second"], &["sleep", "1000"]);
    wait_for("the new name is known", PATIENCE, || {
        (name(&serve, second.id()).as_deref() == Some("second")).then_some(())
    });
    assert!(serve.metrics().count("agent_engine_errors_total", &labels) > 0);

    // It does not end its stream, nor does it say anything there.
    docker.freeze(|| {
        wait_for("it is missed", 2 * PATIENCE, || {
            (connected() == 0).then_some(())
        });
    });
    wait_for("it is heard again", 2 * PATIENCE, || {
        (connected() == 1).then_some(())
    });
}

/// What the server calls a container.
fn name(serve: &Serve, id: &str) -> Option<String> {
    let all: Value = serde_json::from_str(&serve.get("/v1/containers").body).expect("JSON");
    let all = all.as_array().expect("a list");
    let found = all.iter().find(|state| state["id"] == id)?;
    found["name"].as_str().map(str::to_owned)
}
