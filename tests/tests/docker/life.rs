//! Starts and stops.

use std::fs;

use serde_json::{Value, json};
use tests::docker::{Docker, IMAGE};
use tests::law::assert_law;
use tests::wait::{PATIENCE, wait_for};

use crate::{MAY_UNSHARE, assert_is, get, is_unshare_of_net, state};

#[test]
#[ignore = "needs root"]
fn a_container_starts_and_stops_once() {
    let docker = Docker::start();
    let serve = docker.serve();
    let mut watch = serve.watch(&["--kind", "container"]);

    let exits = docker.run(&[], &["sh", "-c", "exit 7"]);
    assert_eq!(exits.wait(), 7);
    let killed = docker.run(&[], &["sleep", "1000"]);
    killed.kill();
    assert_eq!(killed.wait(), 128 + 9);
    // Its only process takes ever more memory.
    let grows = "text=x; while :; do text=$text$text; done";
    let oom_killed = docker.run(&["--memory", "50m"], &["sh", "-c", grows]);
    assert_eq!(oom_killed.wait(), 128 + 9);
    for container in [&exits, &killed, &oom_killed] {
        container.remove();
    }
    // Records of one ring come in order: what the others had to say was said before.
    let marker = docker.run(&[], &["true"]);
    let is_marker = |record: &Value| record["container"]["id"] == marker.id();
    let records = watch.until(PATIENCE, is_marker);

    for (container, code, signal, oom) in [
        (&exits, 7, 0, false),
        (&killed, 0, 9, false),
        (&oom_killed, 0, 9, true),
    ] {
        let own = records
            .iter()
            .filter(|record| record["container"]["id"] == container.id());
        let own: Vec<&Value> = own.collect();
        let [start, stop] = own[..] else {
            panic!("not one start and one stop: {own:#?}");
        };
        assert_is(&start["container"], container);
        assert_eq!(
            (&start["action"], &start["exit"]),
            (&json!("start"), &Value::Null)
        );
        assert_is(&stop["container"], container);
        assert_eq!(stop["action"], "stop");
        let mut exit = stop["exit"].clone();
        assert!(exit["duration_ms"].take().is_u64(), "{stop}");
        let wanted =
            json!({"code": code, "signal": signal, "oom_killed": oom, "duration_ms": null});
        assert_eq!(exit, wanted, "{stop}");
    }
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn a_container_of_an_instant_is_seen() {
    let docker = Docker::start();
    let serve = docker.serve();
    let mut watch = serve.watch(&["--kind", "container"]);
    let directory = tempfile::tempdir().expect("a directory for the id");
    let file = directory.path().join("id");
    let file = file.to_str().expect("a path that is text");
    docker.call(&["run", "--rm", "--cidfile", file, IMAGE, "sleep", "0.05"]);
    let id = fs::read_to_string(file).expect("the id");
    let of = |action| {
        let id = id.clone();
        move |record: &Value| record["container"]["id"] == id && record["action"] == action
    };
    let start = watch.next(PATIENCE, of("start"));
    assert_eq!(start["container"]["cgroup"], format!("/docker/{id}"));
    let stop = watch.next(PATIENCE, of("stop"));
    assert_eq!(
        (&stop["exit"]["code"], &stop["exit"]["signal"]),
        (&json!(0), &json!(0))
    );
    let duration = stop["exit"]["duration_ms"].as_u64();
    assert!(duration.is_some_and(|duration| duration >= 50), "{stop}");
    wait_for("it is no container any more", PATIENCE, || {
        let all = get(&serve, "/v1/containers");
        all.iter().all(|it| it["id"] != id).then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_container_older_than_the_agent_is_known() {
    let docker = Docker::start();
    let container = docker.run(&MAY_UNSHARE, &["sleep", "1000"]);
    // A container's first process is the oldest, not the one with the lowest number.
    docker.call(&["exec", "--detach", container.id(), "sleep", "1000"]);
    let serve = docker.serve();
    let mut watch = serve.watch(&["--container", container.id()]);

    let state = state(&serve, &container);
    assert_eq!(
        (&state["running"], &state["pid"]),
        (&json!(true), &json!(container.pid()))
    );
    container.exec(&["unshare", "-n", "true"]);
    let record = watch.next(PATIENCE, is_unshare_of_net);
    assert_is(&record["container"], &container);
    container.kill();
    let stop = watch.next(PATIENCE, |record| record["kind"] == "container");
    assert_eq!(
        (&stop["action"], &stop["exit"]["signal"]),
        (&json!("stop"), &json!(9)),
        "{stop}"
    );
    assert_is(&stop["container"], &container);
}
