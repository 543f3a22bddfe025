//! What the socket tells of containers and namespaces.

use serde_json::{Value, json};
use tests::docker::{Container, Docker, namespace};

use crate::{assert_is, get, state};

#[test]
fn containers_and_namespaces_are_listed() {
    if !tests::root() {
        return;
    }
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
