//! OOM kills: who was killed, for whose limit, and how often. The kernel's own count is the measure.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tests::cgroup::Cgroup;
use tests::law::assert_law;
use tests::limited::{LIMIT, Limited, TOO_MUCH, victim};
use tests::memory::{Hog, first, oom_kills, set_limit};
use tests::process::{kill, wait_for_end, wait_until_it_is};
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

/// How far below the limit a cgroup may be when one process alone runs into it: what the kernel takes in advance for
/// each CPU, in pages.
const TOLERANCE: u64 = 1 << 20;

#[test]
#[ignore = "needs root"]
fn the_parent_whose_limit_it_is_is_told() {
    let serve = Serve::start(&[]);
    let mut limited = Limited::new("parent");
    let mut watch = limited.watch(&serve);
    let before = serve.metrics();
    for _ in 0..3 {
        let mut stress = limited.below.command("stress-ng");
        stress.args("--quiet --vm 1 --vm-bytes 200M --vm-keep --oomable --timeout 20s".split(' '));
        let status = stress.status().expect("stress-ng can be run");
        assert_eq!(
            status.signal(),
            None,
            "not the stressor was killed, but its parent"
        );
    }
    let records = limited.stop(&mut watch);
    let kills = limited.assert_counted(&before, &serve.metrics());
    assert!(kills >= 3, "{kills}");
    assert_eq!(records.len() as u64, kills);
    for record in &records {
        limited.assert_told(record);
        assert_eq!(
            record["victim"]["process"]["comm"], "stress-ng-vm",
            "{record}"
        );
        assert_eq!(record["victim"]["process"]["uid"], 0, "{record}");
        assert_eq!(record["init_killed"], false, "{record}");
        let number = |path: &str| record.pointer(path).and_then(Value::as_u64);
        let usage = number("/limit_owner/usage_bytes").expect("usage");
        assert!((LIMIT - TOLERANCE..=LIMIT).contains(&usage), "{record}");
        let anon = number("/rss/anon_bytes").expect("anonymous memory");
        assert!((LIMIT / 2..=LIMIT).contains(&anon), "{record}");
        assert_eq!(record["limit_owner"]["swap_limit_bytes"], Value::Null);
    }
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn each_process_is_told_once_however_many_threads_it_has() {
    let serve = Serve::start(&[]);
    for threads in [1, 8] {
        let mut limited = Limited::new("threads");
        let mut watch = limited.watch(&serve);
        let before = serve.metrics();
        let mut hogs: Vec<Hog> = (0..6)
            .map(|_| Hog::start(&limited.below, threads, TOO_MUCH))
            .collect();
        // No two fit, and none fits alone.
        hogs.iter_mut().for_each(Hog::wait_until_killed);
        let records = limited.stop(&mut watch);
        let kills = limited.assert_counted(&before, &serve.metrics());
        assert_eq!(kills, 6);
        records
            .iter()
            .for_each(|record| limited.assert_told(record));
        let told: Vec<u32> = records.iter().map(victim).collect();
        assert_eq!(told.len(), 6, "{told:?}");
        let started: BTreeSet<u32> = hogs.iter().map(Hog::pid).collect();
        assert_eq!(BTreeSet::from_iter(told), started);
    }
    assert_law(&serve);
    serve.stop();
}

/// A frozen cgroup of v1. Dropping it thaws it: what is frozen cannot even be killed.
struct Frozen<'a>(&'a Cgroup);

impl<'a> Frozen<'a> {
    fn new(cgroup: &'a Cgroup) -> Self {
        cgroup.write("freezer", "freezer.state", "FROZEN");
        wait_for("a cgroup is frozen", PATIENCE, || {
            let state = cgroup.read("freezer", "freezer.state");
            (state.trim() == "FROZEN").then_some(())
        });
        Self(cgroup)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.write("freezer", "freezer.state", "THAWED");
    }
}

/// The OOM killer chooses a process that was killed already: it marks and thaws it, and counts no kill.
#[test]
#[ignore = "needs root"]
fn a_mark_of_what_was_killed_already_is_no_kill() {
    if !Cgroup::is_v1("freezer") {
        tests::skip("needs the freezer of v1, which holds up SIGKILL");
        return;
    }
    let serve = Serve::start(&[]);
    for threads in [1, 8] {
        let mut limited = Limited::new("marked");
        let mut watch = limited.watch(&serve);
        let before = serve.metrics();
        let cold = limited.container.child("cold");
        for _ in 0..5 {
            let mut dying = Hog::start(&cold, threads, LIMIT - (15 << 20));
            assert!(dying.is_full());
            let frozen = Frozen::new(&cold);
            dying.signal_kill();
            let mut other = Hog::start(&limited.below, 1, 25 << 20);
            // Only the mark lets it die.
            dying.wait_until_killed();
            other.is_full();
            drop(frozen);
        }
        assert_eq!(oom_kills(&cold), 0, "the kernel counts no kill");
        let id = limited.container.path();
        let count = serve
            .metrics()
            .count("container_oom_events_total", &[("id", &id)]);
        assert_eq!(count, oom_kills(&limited.below));
        // One that is a kill counts as one.
        Hog::start(&limited.below, threads, TOO_MUCH).wait_until_killed();
        let records = limited.stop(&mut watch);
        let kills = limited.assert_counted(&before, &serve.metrics());
        assert!(kills >= 1);
        assert_eq!(records.len() as u64, kills, "{records:?}");
    }
    serve.stop();
}

/// Memory is freed by those that are killed from outside while the OOM killer works.
#[test]
#[ignore = "needs root"]
fn processes_killed_while_they_allocate_are_counted_as_the_kernel_does() {
    let serve = Serve::start(&[]);
    let mut limited = Limited::new("storm");
    let mut watch = limited.watch(&serve);
    let before = serve.metrics();
    let mut started = BTreeSet::new();
    for round in 0..12 {
        let kills = oom_kills(&limited.below);
        let threads = if round % 2 == 0 { 1 } else { 8 };
        let mut hogs: Vec<Hog> = (0..8)
            .map(|_| Hog::start(&limited.below, threads, 20 << 20))
            .collect();
        started.extend(hogs.iter().map(Hog::pid));
        wait_for("one is killed", PATIENCE, || {
            (oom_kills(&limited.below) > kills).then_some(())
        });
        for (i, hog) in hogs.iter().enumerate() {
            // Anything may be the case by then: that is what is wanted.
            sleep(Duration::from_millis((i as u64 * 7 + round) % 11));
            hog.signal_kill();
        }
        hogs.iter_mut().for_each(Hog::wait_until_killed);
    }
    let records = limited.stop(&mut watch);
    let kills = limited.assert_counted(&before, &serve.metrics());
    assert!(kills >= 12, "{kills}");
    records
        .iter()
        .for_each(|record| limited.assert_told(record));
    let told: BTreeSet<u32> = records.iter().map(victim).collect();
    assert_eq!((told.len() as u64, records.len() as u64), (kills, kills));
    assert!(told.is_subset(&started), "{told:?} {started:?}");
    assert_law(&serve);
    serve.stop();
}

/// A cgroup whose tasks wait at its limit is full, and was short of memory, and yet kills nobody.
#[test]
#[ignore = "needs root"]
fn a_full_cgroup_below_is_not_the_owner() {
    if !Cgroup::is_v1("memory") {
        tests::skip("needs the memory controller of v1, where tasks can wait at a limit");
        return;
    }
    let serve = Serve::start(&[]);
    let mut limited = Limited::new("waiting");
    let mut watch = limited.watch(&serve);
    set_limit(&limited.below, 30 << 20);
    limited.below.write("memory", "memory.oom_control", "1");
    let other = limited.container.child("other");
    let mut waited = Vec::new();
    for _ in 0..5 {
        let mut waiting = Hog::start(&limited.below, 8, TOO_MUCH);
        wait_for("the hog waits for memory", PATIENCE, || {
            let state = limited.below.read("memory", "memory.oom_control");
            state.contains("under_oom 1").then_some(())
        });
        let mut trigger = Hog::start(&other, 1, 25 << 20);
        waiting.wait_until_killed();
        trigger.is_full();
        waited.push(waiting.pid());
    }
    let records = limited.stop(&mut watch);
    let kills = oom_kills(&limited.below) + oom_kills(&other);
    assert_eq!(records.len() as u64, kills, "{records:?}");
    records
        .iter()
        .for_each(|record| limited.assert_told(record));
    let told: BTreeSet<u32> = records.iter().map(victim).collect();
    assert!(
        told.is_superset(&waited.iter().copied().collect()),
        "{waited:?} {told:?}"
    );
    let metrics = serve.metrics();
    let labels = [("role", "limit_owner"), ("id", &*limited.container.path())];
    assert_eq!(metrics.count("container_oom_kills_total", &labels), kills);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn a_limit_on_memory_and_swap_together_is_told() {
    let file = "memory.memsw.limit_in_bytes";
    let mut limited = Limited::new("memsw");
    if !limited.container.directory("memory").join(file).exists() {
        tests::skip("needs the memory controller of v1 with swap accounting");
        return;
    }
    limited.container.write("memory", file, &LIMIT.to_string());
    let serve = Serve::start(&[]);
    let mut watch = limited.watch(&serve);
    let before = serve.metrics();
    Hog::start(&limited.below, 1, TOO_MUCH).wait_until_killed();
    let records = limited.stop(&mut watch);
    assert_eq!(limited.assert_counted(&before, &serve.metrics()), 1);
    assert_eq!(records.len(), 1, "{records:?}");
    limited.assert_told(&records[0]);
    let owner = &records[0]["limit_owner"];
    assert_eq!(owner["swap_limit_bytes"], LIMIT);
    let usage = owner["swap_usage_bytes"].as_u64().expect("usage");
    assert!((LIMIT - TOLERANCE..=LIMIT).contains(&usage), "{owner}");
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn the_death_of_the_first_process_is_the_container_s() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("first");
    set_limit(&cgroup, LIMIT);
    let mut watch = serve.watch(&["--kind", "oom,container", "--container", cgroup.name()]);
    let mut hog = Hog::start_first(&cgroup, TOO_MUCH);
    hog.wait_until_killed();
    let oom = watch.next(PATIENCE, |record| record["kind"] == "oom");
    assert_eq!(oom["init_killed"], true, "{oom}");
    assert_eq!(victim(&oom), hog.pid());
    let stop = watch.next(PATIENCE, |record| record["action"] == "stop");
    let exit = &stop["exit"];
    assert_eq!(exit["signal"], 9, "{stop}");
    assert_eq!(exit["code"], 0, "{stop}");
    assert_eq!(exit["oom_killed"], true, "{stop}");
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn the_death_of_a_later_process_is_not_the_container_s() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("later");
    set_limit(&cgroup, LIMIT);
    let mut watch = serve.watch(&["--kind", "oom,container", "--container", cgroup.name()]);
    // It waits for its input's end.
    let mut init = first(&cgroup.command("cat"));
    let init = init.stdin(Stdio::piped());
    let mut init = init.spawn().expect("cat can be run");
    wait_until_it_is(init.id(), "cat");
    Hog::start(&cgroup, 1, TOO_MUCH).wait_until_killed();
    let oom = watch.next(PATIENCE, |record| record["kind"] == "oom");
    assert_eq!(oom["init_killed"], false, "{oom}");
    drop(init.stdin.take());
    let status = wait_for_end(&mut init, "cat ends");
    assert!(status.success(), "{status}");
    let stop = watch.next(PATIENCE, |record| record["action"] == "stop");
    assert_eq!(stop["exit"]["signal"], 0, "{stop}");
    assert_eq!(stop["exit"]["code"], 0, "{stop}");
    assert_eq!(stop["exit"]["oom_killed"], false, "{stop}");
    kill(&mut init);
    serve.stop();
}
