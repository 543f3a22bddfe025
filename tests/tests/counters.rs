//! Counters outlive what they count: watchers, cgroups, and the agent.

use std::thread;

use tests::agent;
use tests::cgroup::Cgroup;
use tests::limited::{LIMIT, Limited, TOO_MUCH, host_kills, victim};
use tests::memory::{Hog, oom_kills, set_limit};
use tests::metrics::Metrics;
use tests::mounts::Mounts;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

fn oom_events(metrics: &Metrics, id: &str) -> u64 {
    metrics.count("container_oom_events_total", &[("id", id)])
}

#[test]
#[ignore = "needs root"]
fn kills_count_though_nobody_watches() {
    let serve = Serve::start(&[]);
    let before = serve.metrics();
    let limited = Limited::new("unwatched");
    for threads in [1, 8, 1] {
        Hog::start(&limited.below, threads, TOO_MUCH).wait_until_killed();
    }
    assert_eq!(limited.assert_counted(&before, &serve.metrics()), 3);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn a_cgroup_removed_at_once_keeps_its_counters() {
    let serve = Serve::start(&[]);
    let before = serve.metrics();
    for _ in 0..5 {
        let cgroup = Cgroup::new("removed");
        set_limit(&cgroup, LIMIT);
        Hog::start(&cgroup, 1, TOO_MUCH).wait_until_killed();
        assert_eq!(oom_kills(&cgroup), 1);
        let (id, name) = (cgroup.path(), cgroup.name().to_owned());
        drop(cgroup);
        wait_for("the removal is seen", PATIENCE, || {
            let metrics = serve.metrics();
            let events = metrics.value(
                "container_oom_events_total",
                &[("id", &id), ("name", &name)],
            );
            assert_eq!(events, 1.0);
            let lives = metrics.find("container_last_seen", &[("id", &id)]);
            lives.is_none().then_some(())
        });
        let metrics = serve.metrics();
        assert_eq!(oom_events(&metrics, &id), 1);
        for role in ["victim", "limit_owner"] {
            let labels = [("role", role), ("id", &*id)];
            assert_eq!(metrics.count("container_oom_kills_total", &labels), 1);
        }
    }
    assert!(host_kills(&serve.metrics()) >= host_kills(&before) + 5);
    serve.stop();
}

/// All roles of kills have one epoch: the start of the agent.
#[test]
#[ignore = "needs root"]
fn kills_before_the_start_do_not_count_and_the_next_is_told_once() {
    let mut limited = Limited::new("earlier");
    for _ in 0..3 {
        Hog::start(&limited.below, 1, TOO_MUCH).wait_until_killed();
    }
    let serve = Serve::start(&[]);
    let before = serve.metrics();
    let id = limited.container.path();
    let kills = |metrics: &Metrics| {
        let role = |role| {
            let labels = [("role", role), ("id", &*id)];
            metrics.count("container_oom_kills_total", &labels)
        };
        [
            oom_events(metrics, &id),
            role("victim"),
            role("limit_owner"),
        ]
    };
    assert_eq!(kills(&before), [0, 0, 0]);
    let mut watch = limited.watch(&serve);
    let mut next = Hog::start(&limited.below, 8, TOO_MUCH);
    next.wait_until_killed();
    let records = limited.stop(&mut watch);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(victim(&records[0]), next.pid());
    let metrics = serve.metrics();
    assert_eq!(oom_kills(&limited.below), 4);
    assert_eq!(kills(&metrics), [1, 1, 1]);
    assert!(host_kills(&metrics) > host_kills(&before));
    serve.stop();
}

/// The counts of a cgroup move when it is removed: no scrape may have them twice, or not at all.
#[test]
#[ignore = "needs root"]
fn a_scrape_during_a_removal_adds_up_once() {
    let serve = Serve::start(&[]);
    let mut scrapes = Vec::new();
    let ids = thread::scope(|scope| {
        let churn = scope.spawn(|| (0..60).map(|_| end_in_a_cgroup()).collect());
        while !churn.is_finished() {
            scrapes.push(serve.metrics());
        }
        let ids: Vec<String> = churn.join().expect("every call was made");
        ids
    });
    for id in &ids {
        let labels = [("how", "signal"), ("id", id)];
        let values = scrapes.iter();
        let values = values.filter_map(|it| it.find("container_exits_total", &labels));
        let values: Vec<f64> = values.collect();
        assert!(values.is_sorted(), "{id}: {values:?}");
        assert!(values.iter().all(|value| *value <= 1.0), "{id}: {values:?}");
    }
    let metrics = wait_for("the last removal is seen", PATIENCE, || {
        let metrics = serve.metrics();
        let seen = |id: &str| metrics.find("container_last_seen", &[("id", id)]).is_none();
        let known = |id: &str| {
            let labels = [("how", "signal"), ("id", id)];
            metrics.find("container_exits_total", &labels).is_some()
        };
        ids.iter()
            .all(|id| seen(id) && known(id))
            .then_some(metrics)
    });
    for id in &ids {
        let labels = [("how", "signal"), ("id", id)];
        assert_eq!(metrics.count("container_exits_total", &labels), 1);
    }
    serve.stop();
}

/// Ends one process by a signal in a cgroup that is removed then: the cgroup's path.
fn end_in_a_cgroup() -> String {
    let cgroup = Cgroup::new("churn");
    let id = cgroup.path();
    let mut shell = cgroup.command("sh");
    let status = shell.args(["-c", "kill -KILL $$"]).status();
    assert!(!status.expect("sh can be run").success());
    id
}

/// Counters live in maps that a path keeps, whatever becomes of the process.
#[test]
#[ignore = "needs root"]
fn counters_go_on_after_a_kill_of_the_agent() {
    let directory = tempfile::tempdir().expect("a directory to mount at");
    let mounts = Mounts::new("bpf", directory.path());
    let pin = directory.path().join("agent");
    let pin = pin.to_str().expect("a path in UTF-8");
    let start = || {
        let serve = Serve::spawn_by(mounts.command(agent::binary()), &["--pin-path", pin]);
        serve.wait_until_it_traces();
        serve
    };
    let mut limited = Limited::new("pinned");
    let container = limited.container.path();
    let calls = |metrics: &Metrics| {
        let labels = [("call", "unshare"), ("type", "uts"), ("id", &*container)];
        metrics.count("container_namespace_calls_total", &labels)
    };

    let serve = start();
    for _ in 0..3 {
        let unshare = limited
            .below
            .command("unshare")
            .args(["-u", "true"])
            .status();
        assert!(unshare.expect("unshare can be run").success());
    }
    Hog::start(&limited.below, 1, TOO_MUCH).wait_until_killed();
    let first = serve.metrics();
    assert_eq!((calls(&first), oom_events(&first, &container)), (3, 1));
    // By SIGKILL.
    drop(serve);

    // No agent sees this one: it counts in no role.
    Hog::start(&limited.below, 1, TOO_MUCH).wait_until_killed();

    let serve = start();
    let second = serve.metrics();
    assert_eq!((calls(&second), oom_events(&second, &container)), (3, 1));
    assert!(host_kills(&second) >= host_kills(&first));
    let mut watch = limited.watch(&serve);
    Hog::start(&limited.below, 8, TOO_MUCH).wait_until_killed();
    let records = limited.stop(&mut watch);
    assert_eq!(records.len(), 1, "{records:?}");
    let third = serve.metrics();
    assert_eq!((calls(&third), oom_events(&third, &container)), (3, 2));
    assert_eq!(oom_kills(&limited.below), 3);
    assert!(host_kills(&third) > host_kills(&second));
    let labels = [("role", "limit_owner"), ("id", &*limited.container.path())];
    let for_its_limit = third.count("container_oom_kills_total", &labels);
    assert_eq!(
        for_its_limit, 2,
        "whose limit it was is not known of what nobody saw"
    );
    serve.stop();
}
