//! What happens in cgroups below a container's own one, and whose it is.

use serde_json::Value;

use crate::metrics::Metrics;

/// The families that say what happened.
pub const COUNTED: [&str; 9] = [
    "container_oom_events_total",
    "container_oom_kills_total",
    "container_forks_total",
    "container_threads_created_total",
    "container_execs_total",
    "container_exits_total",
    "container_escapes_total",
    "container_namespace_calls_total",
    "container_namespace_call_errors_total",
];

/// A shell that lives, and of whose children one after the other needs more than 48 MiB of memory.
pub const KILLED_ONE_BY_ONE: &str = "while :; do /bin/busybox dd if=/dev/zero of=/dev/null bs=64M count=1; \
     /bin/busybox sleep 0.1; done";

/// Whether the series of the container `name` whose own cgroup is at `path` say what [`KILLED_ONE_BY_ONE`] does.
#[must_use]
pub fn is_counted(metrics: &Metrics, path: &str, name: &str) -> bool {
    let value = |family: &str, own: &[(&str, &str)]| {
        let labels = [own, &[("id", path), ("name", name)]].concat();
        let mut samples = metrics.samples(family, &labels);
        let found = samples.find(|it| !it.labels["image"].is_empty());
        found.map_or(0.0, |it| it.value)
    };
    // Another may be marked for death and not have ended.
    let ended = value("container_exits_total", &[("how", "oom_killed")]);
    let roles = ["victim", "limit_owner"].map(|role| ("role", role));
    let kills = roles.map(|role| value("container_oom_kills_total", &[role]));
    let events = value("container_oom_events_total", &[]);
    let all = [ended, events, kills[0], kills[1]];
    all.iter().all(|it| *it >= 2.0)
        && value("container_execs_total", &[]) >= 2.0
        && value("container_forks_total", &[]) >= 2.0
        && value("container_processes", &[]) >= 1.0
}

/// Nobody finds what happened under another name, or twice.
///
/// # Panics
/// Where somebody does.
pub fn assert_none_below(metrics: &Metrics, path: &str) {
    let below = format!("{path}/");
    for family in COUNTED {
        let mut samples = metrics.samples(family, &[]);
        let found = samples.find(|it| it.labels["id"].starts_with(&below));
        assert_eq!(found, None);
    }
}

/// What a report of `agent verify` says of memory has this verdict, and is about the cgroup at `path`.
///
/// # Panics
/// Where it does not.
#[track_caller]
pub fn assert_judged_at<'a>(report: &'a Value, verdict: &str, path: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("a list");
    let memory = checks.iter().find(|it| it["limit"] == "memory");
    let memory = memory.unwrap_or_else(|| panic!("no memory: {report:#}"));
    assert_eq!(memory["verdict"], verdict, "{report:#}");
    assert_eq!(memory["effective"]["cgroup"], path, "{report:#}");
    memory
}
