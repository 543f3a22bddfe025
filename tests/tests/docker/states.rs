//! The state of a container, as `agent ps` says it: docker's word for it.

use std::path::Path;

use serde_json::Value;
use tests::agent::agent;
use tests::docker::{Container, Docker};
use tests::run::text;
use tests::wait::{PATIENCE, wait_for};

/// The state of a container, and whether it is in the table; none where it is not listed.
fn state(
    socket: &Path,
    docker: &Docker,
    container: &Container<'_>,
    more: &[&str],
) -> Option<String> {
    let ps = |output: &str| {
        let mut ps = agent(["ps", "--output", output, "--socket"]);
        ps.arg(socket).arg("--docker-socket").arg(docker.socket());
        text(ps.args(more))
    };
    let all: Vec<Value> = serde_json::from_str(&ps("json")).expect("a list");
    let state = all.into_iter().find(|it| it["id"] == container.id())?;
    let word = state["state"].as_str().expect("a word").to_owned();
    let name = state["name"].as_str().expect("a name");
    let table = ps("human");
    let line = table.lines().find(|it| it.starts_with(name))?;
    line.contains(&format!(" {word} ")).then_some(word)
}

#[test]
#[ignore = "needs root"]
fn each_state_has_dockers_word() {
    let docker = Docker::start();
    let serve = docker.serve();
    let container = docker.run(&["--name=states"], &["sleep", "1000"]);
    let socket = serve.socket();
    let alone = Path::new("off");
    let wait_for_state = |socket: &Path, more: &[&str], wanted: Option<&str>| {
        let what = format!("{wanted:?} by {}, {more:?}", socket.display());
        wait_for(&what, PATIENCE, || {
            (state(socket, &docker, &container, more).as_deref() == wanted).then_some(())
        });
    };
    let everywhere = |wanted| {
        for socket in [&*socket, alone] {
            wait_for_state(socket, &[], Some(wanted));
        }
        wait_for_state(&socket, &["--all"], Some(wanted));
    };
    everywhere("running");
    docker.call(&["pause", container.id()]);
    everywhere("paused");
    docker.call(&["unpause", container.id()]);
    everywhere("running");
    let ended = |word| {
        wait_for_state(&socket, &[], None);
        wait_for_state(alone, &[], None);
        wait_for_state(&socket, &["--all"], Some(word));
    };
    container.kill();
    ended("exited");
    container.start();
    everywhere("running");
    container.kill();
    container.wait();
    container.remove();
    ended("removed");
    serve.stop();
}
