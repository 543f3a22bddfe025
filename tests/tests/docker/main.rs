//! Containers of a real engine.

mod calls;
mod drift;
mod escapes;
mod instant;
mod life;
mod lists;
mod messages;
mod names;
mod oom;
mod shares;
mod states;
mod subtree;

use serde_json::Value;
use tests::docker::Container;
use tests::serve::Serve;

/// Options for a container that may make namespaces.
const MAY_UNSHARE: [&str; 2] = ["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined"];

fn is_unshare_of_net(record: &Value) -> bool {
    record["kind"] == "unshare" && record["process"]["comm"] == "unshare"
}

#[track_caller]
fn assert_is(found: &Value, container: &Container<'_>) {
    let fields = ["kind", "id", "runtime", "cgroup"].map(|name| found[name].as_str());
    let cgroup = container.cgroup();
    let wanted = ["container", container.id(), "docker", &cgroup].map(Some);
    assert_eq!(fields, wanted);
}

/// What is at `path` of the socket, a list.
fn get(serve: &Serve, path: &str) -> Vec<Value> {
    let response = serve.get(path);
    assert_eq!(response.status, 200, "{response:?}");
    serde_json::from_str(&response.body).expect("a list")
}

/// What the socket tells of the container.
#[track_caller]
fn state(serve: &Serve, container: &Container<'_>) -> Value {
    let mut states = get(serve, "/v1/containers").into_iter();
    let state = states.find(|state| state["cgroup"] == container.cgroup());
    state.expect("the container's state")
}

/// Every container with this id that a record has, at any depth.
fn mentions<'a>(value: &'a Value, id: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            if value["id"] == id && fields.contains_key("runtime") {
                found.push(value);
            }
            fields.values().for_each(|it| mentions(it, id, found));
        }
        Value::Array(values) => values.iter().for_each(|it| mentions(it, id, found)),
        _ => {}
    }
}
