//! What the socket tells of containers and namespaces.

use std::path::Path;

use serde_json::{Value, json};
use tests::agent::agent;
use tests::docker::{Container, Docker, namespace};
use tests::wait::{PATIENCE, wait_for};

use crate::{assert_is, get, state};

#[test]
#[ignore = "needs root"]
fn containers_and_namespaces_are_listed() {
    let docker = Docker::start();
    let serve = docker.serve();
    let first = docker.run(&[], &["sleep", "1000"]);
    let shares = format!("--pid=container:{}", first.id());
    let second = docker.run(&[&shares, "--net=host"], &["sleep", "1000"]);

    for container in [&first, &second] {
        let state = state(&serve, container);
        assert_is(&state, container);
        assert_eq!(state["running"], true, "{state}");
        assert_eq!(state["pid"], container.pid(), "{state}");
        assert!(state["started"].is_string(), "{state}");
        for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
            assert_eq!(
                state["namespaces"][name],
                container.namespace(name),
                "{name}: {state}"
            );
        }
    }

    let namespaces = get(&serve, "/v1/namespaces");
    let find = |kind: &str, inode: u64| {
        let mut found = namespaces
            .iter()
            .filter(|it| it["type"] == kind && it["inode"] == inode);
        let namespace = found.next().expect("the namespace").clone();
        assert_eq!(found.next(), None);
        namespace
    };
    let holds = |namespace: &Value, container: &Container<'_>| {
        let containers = namespace["containers"].as_array().expect("containers");
        containers.iter().any(|it| it["id"] == container.id())
    };
    let pid = find("pid", first.namespace("pid"));
    assert_eq!(
        (&pid["host"], &pid["processes"]),
        (&json!(false), &json!(2)),
        "{pid}"
    );
    assert!(holds(&pid, &first) && holds(&pid, &second), "{pid}");
    let net = find("net", first.namespace("net"));
    assert_eq!(
        (&net["host"], &net["processes"]),
        (&json!(false), &json!(1)),
        "{net}"
    );
    assert_eq!(net["containers"][0]["id"], first.id());
    assert_eq!(net["containers"][1], json!(null));
    let of_host = find("net", namespace("self", "net"));
    assert_eq!(of_host["host"], true, "{of_host}");
    assert!(
        holds(&of_host, &second) && !holds(&of_host, &first),
        "{of_host}"
    );
}

/// What `agent ps` says of how it stands with a container.
fn listed(socket: &Path, docker: &Docker, arguments: &[&str], id: &str) -> Option<Value> {
    let mut ps = agent(["ps", "--output", "json", "--socket"]);
    let ps = ps.arg(socket).arg("--docker-socket").arg(docker.socket());
    let output = ps.args(arguments).output().expect("agent ps can be run");
    assert!(output.status.success(), "{output:?}");
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
    let mut found = all.into_iter().filter(|it| it["id"] == id);
    let state = found.next();
    assert_eq!(found.next(), None);
    state
}

/// docker has them, and no cgroup of theirs was ever seen.
#[test]
#[ignore = "needs root"]
fn what_docker_has_and_does_not_run_is_listed() {
    let docker = Docker::start();
    let ended = docker.run(&[], &["true"]);
    ended.wait();
    let made = docker.create(&[], &["sleep", "1000"]);
    let serve = docker.serve();
    let sockets = [serve.socket(), Path::new("off").to_owned()];
    for socket in &sockets {
        for (container, word) in [(&ended, "exited"), (&made, "created")] {
            assert_eq!(listed(socket, &docker, &[], container.id()), None);
            let state = listed(socket, &docker, &["-a"], container.id());
            let state = state.unwrap_or_else(|| panic!("docker has it: {word}"));
            assert_eq!(state["state"], word, "{state}");
            assert_eq!(state["runtime"], "docker", "{state}");
            let name = container.inspect("{{.Name}}");
            assert_eq!(state["name"], name.trim_start_matches('/'), "{state}");
        }
    }
    made.start();
    let word = |word: &str| {
        wait_for(word, PATIENCE, || {
            let state = listed(&sockets[0], &docker, &["-a"], made.id())?;
            (state["state"] == word).then_some(())
        });
    };
    word("running");
    made.kill();
    word("exited");
    ended.remove();
    wait_for("it is not listed", PATIENCE, || {
        listed(&sockets[0], &docker, &["-a"], ended.id())
            .is_none()
            .then_some(())
    });
    serve.stop();
}
