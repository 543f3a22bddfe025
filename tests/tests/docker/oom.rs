//! OOM kills.

use std::fs;

use serde_json::Value;
use tests::cgroup::Cgroup;
use tests::docker::{Container, Docker};
use tests::law::assert_law;
use tests::metrics::Metrics;
use tests::wait::{PATIENCE, wait_for};

use crate::assert_is;

const MEMORY: u64 = 50 << 20;

/// Ends by the OOM killer, which takes the shell that grows.
const KILLED: &str = "sh -c 'x=a; while :; do x=$x$x; done'";

const KILLS: usize = 5;

/// What only a container has that exists.
const OF_THE_LIVING: [&str; 6] = [
    "container_cpu_usage_seconds_total",
    "container_last_seen",
    "container_memory_usage_bytes",
    "container_memory_working_set_bytes",
    "container_spec_memory_limit_bytes",
    "container_start_time_seconds",
];

#[test]
#[ignore = "needs root"]
fn an_oom_kill_is_that_of_the_container() {
    let docker = Docker::start();
    let serve = docker.serve();
    let command = format!("{}; echo over; sleep 1000", [KILLED; KILLS].join("; "));
    // Without swap, which would take what is too much.
    let limits = ["--memory=50m", "--memory-swap=50m"];
    let container = docker.create(&limits, &["sh", "-c", &command]);
    let mut watch = serve.watch(&["--container", container.id()]);
    container.start();
    wait_for("all are killed", PATIENCE, || {
        (container.logs() == "over").then_some(())
    });
    let kills = oom_kills(&container);
    assert_eq!(kills, KILLS as u64);
    assert_eq!(oom_events(&serve.metrics(), &container), kills);

    container.remove();
    let mut records = watch.until(PATIENCE, is_action("stop"));
    records.retain(is_oom);
    assert_eq!(records.len() as u64, kills);
    for record in &records {
        assert_oom(record, &container);
    }
    assert_law(&serve);
    serve.stop();
}

#[track_caller]
fn assert_oom(record: &Value, container: &Container<'_>) {
    for place in ["/container", "/victim/container", "/trigger/container"] {
        let found = record.pointer(place).expect("a container");
        assert_is(found, container);
    }
    assert_eq!(record["constraint"], "memcg", "{record}");
    assert_eq!(record["victim"]["process"]["comm"], "sh", "{record}");
    assert_eq!(record["init_killed"], false, "{record}");
    let limit = &record["limit_owner"];
    assert_eq!(limit["cgroup"], container.cgroup(), "{record}");
    assert_eq!(limit["limit_bytes"], MEMORY, "{record}");
    let usage = limit["usage_bytes"].as_u64().expect("a usage");
    assert!((MEMORY - MEMORY / 50..=MEMORY).contains(&usage), "{record}");
    let anon = record["rss"]["anon_bytes"].as_u64().expect("a size");
    assert!((MEMORY / 2..=MEMORY).contains(&anon), "{record}");
}

#[test]
#[ignore = "needs root"]
fn the_count_of_oom_kills_outlives_the_container() {
    let docker = Docker::start();
    let serve = docker.serve();
    let command = format!("while :; do {KILLED}; done");
    let container = docker.create(&["--memory", "50m"], &["sh", "-c", &command]);
    let mut watch = serve.watch(&["--container", container.id()]);
    container.start();
    wait_for("its series", PATIENCE, || {
        has_series_of_the_living(&serve.metrics(), &container).then_some(())
    });
    watch.next(PATIENCE, is_oom);
    container.remove();
    let rest = watch.until(PATIENCE, is_action("stop"));
    let kills = 1 + rest.iter().filter(|record| is_oom(record)).count() as u64;

    let metrics = wait_for("other series end", PATIENCE, || {
        let metrics = serve.metrics();
        assert_eq!(oom_events(&metrics, &container), kills);
        let gone = OF_THE_LIVING
            .iter()
            .all(|name| find(&metrics, name, &container).is_none());
        gone.then_some(metrics)
    });
    let of_host = metrics.count("machine_oom_kills_total", &[("constraint", "memcg")]);
    assert!(
        of_host >= kills,
        "{of_host} kills on the host, {kills} in the container"
    );
    assert_eq!(oom_events(&serve.metrics(), &container), kills);
}

fn is_oom(record: &Value) -> bool {
    record["kind"] == "oom"
}

fn is_action(action: &str) -> impl Fn(&Value) -> bool {
    move |record| record["kind"] == "container" && record["action"] == action
}

/// The kills in its very cgroup, as the kernel counts them.
fn oom_kills(container: &Container<'_>) -> u64 {
    let file = if Cgroup::is_v1("memory") {
        "memory.oom_control"
    } else {
        "memory.events.local"
    };
    let path = container.directory("memory").join(file);
    let text = fs::read_to_string(path).expect("the file that counts kills");
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count
        .and_then(|count| count.parse().ok())
        .expect("a count of kills")
}

fn find(metrics: &Metrics, name: &str, container: &Container<'_>) -> Option<f64> {
    metrics.find(name, &[("id", &container.cgroup())])
}

fn oom_events(metrics: &Metrics, container: &Container<'_>) -> u64 {
    metrics.count("container_oom_events_total", &[("id", &container.cgroup())])
}

fn has_series_of_the_living(metrics: &Metrics, container: &Container<'_>) -> bool {
    OF_THE_LIVING
        .iter()
        .all(|name| find(metrics, name, container).is_some())
}
