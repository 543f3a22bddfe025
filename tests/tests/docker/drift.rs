//! Limits that docker was asked for, and what the cgroup holds.

use std::fs;
use std::path::PathBuf;

use tests::cgroup::Cgroup;
use tests::docker::{Container, Docker};
use tests::serve::Serve;
use tests::wait::{PATIENCE, poll, wait_for};

const LIMITS: [&str; 3] = ["--memory=64m", "--cpus=0.5", "--pids-limit=50"];

const SLEEP: [&str; 2] = ["sleep", "1000"];

/// The limits of a container that drift, each with how.
fn drifting(serve: &Serve, container: &Container<'_>) -> Option<Vec<[String; 2]>> {
    let metrics = serve.metrics();
    let id = container.cgroup();
    let labels = [("id", &*id)];
    let samples: Vec<_> = metrics.samples("agent_limit_drift", &labels).collect();
    let drifting = samples.iter().filter(|sample| sample.value == 1.0);
    let labels = drifting.map(|it| [&it.labels["limit"], &it.labels["drift"]].map(String::clone));
    (!samples.is_empty()).then(|| labels.collect())
}

#[track_caller]
fn wait_until_drifting(serve: &Serve, container: &Container<'_>, wanted: &[[&str; 2]]) {
    let mut last = None;
    let found = poll(PATIENCE, || {
        last = drifting(serve, container);
        (last.as_ref()? == wanted).then_some(())
    });
    assert!(found.is_some(), "{last:?} drift in the end, not {wanted:?}");
}

fn memory(container: &Container<'_>) -> PathBuf {
    let file = if Cgroup::is_v1("memory") {
        "memory.limit_in_bytes"
    } else {
        "memory.max"
    };
    container.directory("memory").join(file)
}

#[test]
#[ignore = "needs root"]
fn what_somebody_else_writes_drifts_until_docker_means_it() {
    let docker = Docker::start();
    // One that is in the list, and one that events tell of.
    let before = docker.run(&LIMITS, &SLEEP);
    let serve = docker.serve();
    let after = docker.run(&LIMITS, &SLEEP);
    for container in [&before, &after] {
        wait_until_drifting(&serve, container, &[]);
        fs::write(memory(container), "33554432").expect("the kernel takes it");
        wait_until_drifting(&serve, container, &[["memory", "written"]]);
        let pids = container.directory("pids").join("pids.max");
        fs::write(pids, "max").expect("the kernel takes it");
        let both = [["memory", "written"], ["pids-limit", "written"]];
        wait_until_drifting(&serve, container, &both);
        // What it is meant to be from now on.
        docker.call(&["update", "--memory=32m", "--pids-limit=60", container.id()]);
        wait_until_drifting(&serve, container, &[]);
        fs::write(memory(container), "67108864").expect("the kernel takes it");
        wait_until_drifting(&serve, container, &[["memory", "written"]]);
    }
    let labels = [("engine", "docker")];
    let unanswered = serve
        .metrics()
        .count("agent_engine_unanswered_total", &labels);
    assert_eq!(unanswered, 0);
    // It goes with the container.
    after.kill();
    wait_for("nothing is told of it", PATIENCE, || {
        drifting(&serve, &after).is_none().then_some(())
    });
    after.start();
    wait_until_drifting(&serve, &after, &[]);
    serve.stop();
}
