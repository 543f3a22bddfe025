//! Counters of OOM kills outlive what they count: watchers, cgroups, and the agent.

use tests::cgroup::Cgroup;
use tests::limited::{LIMIT, Limited, TOO_MUCH, host_kills, victim};
use tests::memory::{Hog, oom_kills, set_limit};
use tests::metrics::Metrics;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

fn oom_events(metrics: &Metrics, id: &str) -> u64 {
    metrics.count("container_oom_events_total", &[("id", id)])
}

#[test]
fn kills_count_though_nobody_watches() {
    if !tests::root() {
        return;
    }
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
fn a_cgroup_removed_at_once_keeps_its_counters() {
    if !tests::root() {
        return;
    }
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

#[test]
fn kills_before_the_start_count_and_the_next_is_told_once() {
    if !tests::root() {
        return;
    }
    let mut limited = Limited::new("earlier");
    for _ in 0..3 {
        Hog::start(&limited.below, 1, TOO_MUCH).wait_until_killed();
    }
    let serve = Serve::start(&[]);
    let before = serve.metrics();
    let id = limited.below.path();
    assert_eq!(oom_events(&before, &id), 3);
    let mut watch = limited.watch(&serve);
    let mut next = Hog::start(&limited.below, 8, TOO_MUCH);
    next.wait_until_killed();
    let records = limited.stop(&mut watch);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(victim(&records[0]), next.pid());
    let metrics = serve.metrics();
    assert_eq!(oom_kills(&limited.below), 4);
    assert_eq!(oom_events(&metrics, &id), 4);
    assert!(host_kills(&metrics) > host_kills(&before));
    serve.stop();
}
