//! What the registry knows, told by hand.

mod counted;
mod shares;

use agent_model::container::{ContainerAction, ContainerKind};

use super::cgroup::GONE_AT_MOST;
use std::time::Duration;

use super::*;
use crate::claim::{Claim, Confirmation};

const ID: &str = "9adc5277a29e0d474e8b1b1f44dd6af50352684d11bcb255637520a05f975b59";
const HOST: NamespaceInodes = [1; agent_ebpf::NAMESPACES];
const MEMORY: u32 = 4;
const PIDS: u32 = 8;
const NET: usize = agent_ebpf::Namespace::Net as usize;

fn key(hierarchy: u32, id: u64) -> CgroupKey {
    CgroupKey {
        id,
        hierarchy,
        zero: 0,
    }
}

/// A process in these cgroups of memory and pids; 1 is the root.
fn task(pid: u32, memory: u64, pids: u64) -> Task {
    let mut task = Task {
        pid,
        tid: pid,
        start_time: u64::from(pid) * 10,
        namespaces: HOST,
        ..Task::EMPTY
    };
    for (i, (hierarchy, id)) in [(MEMORY, memory), (PIDS, pids)].into_iter().enumerate() {
        task.cgroups.ids[i] = id;
        task.cgroups.hierarchies[i] = hierarchy;
        task.cgroups.levels[i] = u32::from(id != ROOT_ID);
    }
    task
}

fn add(registry: &mut Registry, hierarchy: u32, id: u64, path: &str) {
    registry.add(key(hierarchy, id), path, SystemTime::UNIX_EPOCH);
}

fn confirm(registry: &mut Registry, paths: &[&str]) {
    let claim = Claim::of(paths[0]).unwrap();
    registry.confirm([Confirmation {
        cgroups: paths.iter().map(|&path| path.to_owned()).collect(),
        ..Confirmation::of(&claim)
    }]);
}

/// A docker container with directories 20 in memory and 30 in pids.
fn docker() -> Registry {
    let mut registry = Registry::new(HOST);
    let path = format!("/docker/{ID}");
    add(&mut registry, MEMORY, 20, &path);
    add(&mut registry, PIDS, 30, &path);
    confirm(&mut registry, &[&path]);
    registry
}

fn name(registry: &Registry, task: &Task) -> String {
    match registry.locate(task) {
        TaskLocation::In(container) => container.name.clone(),
        other => format!("{other:?}"),
    }
}

fn remove(registry: &mut Registry, key: CgroupKey) -> Option<LifeChange> {
    registry.remove(key, &Counts::default(), Instant::now())
}

#[test]
fn a_container_is_found_in_any_hierarchy() {
    let mut registry = docker();
    add(&mut registry, MEMORY, 21, "/plain");
    for (memory, pids) in [(20, 30), (20, 1), (1, 30), (21, 30)] {
        assert_eq!(
            name(&registry, &task(5, memory, pids)),
            ID[..12],
            "{memory} {pids}"
        );
    }
    assert_eq!(name(&registry, &task(5, 21, 1)), "/plain");
    assert_eq!(name(&registry, &task(5, 1, 1)), "Host");
    assert_eq!(name(&registry, &task(5, 1, 99)), "Unknown");
    // The same id in another hierarchy is another cgroup.
    assert_eq!(name(&registry, &task(5, 30, 1)), "Unknown");
}

#[test]
fn it_starts_with_the_first_directory_and_stops_with_the_last() {
    let mut registry = docker();
    let start = registry.set_populated(key(MEMORY, 20), true, 100).unwrap();
    assert_eq!((start.action, start.exit), (ContainerAction::Start, None));
    assert_eq!(registry.set_populated(key(PIDS, 30), true, 101), None);
    registry.set_init(&task(5, 20, 30));
    registry.set_init(&task(6, 20, 30));
    registry.set_oom_killed(&task(5, 20, 30));
    registry.set_exit(&task(6, 20, 30), 7 << 8, 3_000_000);
    registry.set_exit(&task(5, 20, 30), 9, 3_000_050);
    assert_eq!(registry.set_populated(key(MEMORY, 20), false, 200), None);
    let stop = registry.set_populated(key(PIDS, 30), false, 201).unwrap();
    let exit = stop.exit.unwrap();
    assert_eq!(
        (stop.action, stop.container.id.as_str()),
        (ContainerAction::Stop, ID)
    );
    assert_eq!(
        (exit.code, exit.signal, exit.oom_killed, exit.duration_ms),
        (0, 9, true, 3)
    );
    // Nothing of that life is left in the next.
    assert_eq!(
        registry
            .set_populated(key(PIDS, 30), true, 300)
            .unwrap()
            .action,
        ContainerAction::Start
    );
    assert_eq!(registry.set_populated(key(PIDS, 30), false, 301), None);
    let spell = registry.take_empty(key(PIDS, 30)).unwrap();
    let stop = registry.end_empty(key(PIDS, 30), spell).unwrap();
    assert_eq!((stop.action, stop.exit), (ContainerAction::Stop, None));
}

/// Those of an engine that come before the init process does.
#[test]
fn helpers_are_no_life_of_their_own() {
    let mut registry = docker();
    let start = registry.set_populated(key(MEMORY, 20), true, 100).unwrap();
    assert_eq!(start.action, ContainerAction::Start);
    assert_eq!(registry.set_populated(key(MEMORY, 20), false, 200), None);
    let spell = registry.take_empty(key(MEMORY, 20)).unwrap();
    assert_eq!(registry.take_empty(key(PIDS, 30)), None);
    assert!(registry.get(key(MEMORY, 20)).unwrap().life.running());
    assert_eq!(registry.set_populated(key(PIDS, 30), true, 300), None);
    assert_eq!(registry.end_empty(key(MEMORY, 20), spell), None);
    // With it, the end is the end.
    registry.set_init(&task(5, 20, 30));
    let stop = registry.set_populated(key(PIDS, 30), false, 400).unwrap();
    assert_eq!(stop.action, ContainerAction::Stop);
    // And so is the removal without it.
    registry.set_populated(key(PIDS, 30), true, 500);
    assert_eq!(registry.set_populated(key(PIDS, 30), false, 600), None);
    assert_eq!(remove(&mut registry, key(PIDS, 30)), None);
    let stop = remove(&mut registry, key(MEMORY, 20)).unwrap();
    assert_eq!(stop.action, ContainerAction::Stop);
}

#[test]
fn a_removed_directory_is_an_empty_one() {
    let mut registry = docker();
    registry.set_populated(key(MEMORY, 20), true, 100);
    registry.set_init(&task(5, 20, 30));
    assert_eq!(
        remove(&mut registry, key(MEMORY, 20)).unwrap().action,
        ContainerAction::Stop
    );
    assert_eq!(remove(&mut registry, key(PIDS, 30)), None);
}

#[test]
fn the_dead_stay_known_for_a_while() {
    let mut registry = docker();
    let counts = Counts {
        oom_kills: 3,
        ..Counts::default()
    };
    registry.remove(key(MEMORY, 20), &counts, Instant::now());
    assert_eq!(registry.sizes(), (1, 0));
    let now = Instant::now();
    registry.remove(key(PIDS, 30), &Counts::default(), now);
    assert_eq!(registry.sizes(), (0, 1));
    assert_eq!(name(&registry, &task(5, 20, 30)), ID[..12]);
    assert_eq!(past(&registry, key(PIDS, 30)).oom_kills, 3);

    registry.forget(now + DEAD_FOR - Duration::from_secs(1));
    assert_eq!(registry.sizes(), (0, 1));
    registry.forget(now + DEAD_FOR);
    assert_eq!(registry.sizes(), (0, 0));
    assert_eq!(name(&registry, &task(5, 20, 30)), "Unknown");
}

#[test]
fn the_dead_are_not_too_many() {
    let mut registry = Registry::new(HOST);
    for id in 0..2 * DEAD_AT_MOST as u64 {
        add(&mut registry, PIDS, 100 + id, &format!("/a/{id}"));
        remove(&mut registry, key(PIDS, 100 + id));
    }
    assert_eq!(registry.sizes(), (0, DEAD_AT_MOST));
    assert_eq!(name(&registry, &task(5, 1, 100)), "Unknown");
}

#[test]
fn a_path_that_is_used_again_is_another_cgroup() {
    let mut registry = Registry::new(HOST);
    add(&mut registry, PIDS, 50, "/agent/web");
    let counts = Counts {
        oom_kills: 3,
        ..Counts::default()
    };
    registry.remove(key(PIDS, 50), &counts, Instant::now());
    add(&mut registry, PIDS, 51, "/agent/web");
    assert_eq!(registry.sizes(), (1, 1));
    // They are one series.
    assert_eq!(past(&registry, key(PIDS, 51)).oom_kills, 3);
    assert_eq!(past(&registry, key(PIDS, 50)).oom_kills, 0);
}

#[test]
fn another_path_with_the_same_id_is_another_container() {
    let mut registry = docker();
    let forged = format!("/user.slice/user-7.slice/docker/{ID}");
    add(&mut registry, MEMORY, 22, &forged);
    // Nor in a hierarchy where the other is not.
    add(&mut registry, 2, 33, &forged);
    assert_eq!(name(&registry, &task(5, 22, 1)), forged);
    assert_eq!(registry.confirmed_sizes(), (1, 1));
    registry.set_populated(key(MEMORY, 20), true, 100);
    // Neither joins the other: each has a life of its own.
    let start = registry.set_populated(key(MEMORY, 22), true, 101).unwrap();
    assert_eq!(start.container.cgroup, forged);
    registry.set_init(&task(5, 22, 1));
    let stop = registry.set_populated(key(MEMORY, 22), false, 102).unwrap();
    assert_eq!(
        (stop.action, stop.container.cgroup.as_str()),
        (ContainerAction::Stop, forged.as_str())
    );
    registry.set_populated(key(MEMORY, 22), true, 103);
    registry.set_init(&task(5, 22, 1));
    assert_eq!(registry.get(key(MEMORY, 20)).unwrap().life.init(), None);
}

#[test]
fn a_confirmed_container_may_be_at_another_path_in_each_hierarchy() {
    let mut registry = Registry::new(HOST);
    let paths = [
        &*format!("/host.slice/docker-{ID}.scope"),
        &*format!("/system.slice/docker-{ID}.scope"),
    ];
    add(&mut registry, MEMORY, 20, paths[0]);
    add(&mut registry, PIDS, 30, paths[1]);
    add(&mut registry, PIDS, 31, &format!("{}/below", paths[1]));
    assert_eq!(registry.confirmed_sizes(), (0, 2));
    registry.set_populated(key(MEMORY, 20), true, 100);
    confirm(&mut registry, &paths);
    assert_eq!(registry.confirmed_sizes(), (1, 0));
    assert_eq!(registry.set_populated(key(PIDS, 30), true, 101), None);
    registry.set_init(&task(5, 1, 31));
    let only = registry.containers().next().unwrap();
    assert_eq!(only.life.init().unwrap().pid, 5);
    let below = &registry.get(key(PIDS, 31)).unwrap().container;
    assert_eq!(*below, only.container);
    // What is made later below either is the container's.
    for (hierarchy, id, path) in [(MEMORY, 25, paths[0]), (PIDS, 35, paths[1])] {
        add(&mut registry, hierarchy, id, &format!("{path}/late"));
        let late = &registry.get(key(hierarchy, id)).unwrap().container;
        assert_eq!(late.name, ID[..12], "{path}");
    }
    for id in [key(MEMORY, 20), key(PIDS, 30)] {
        remove(&mut registry, id);
    }
    assert_eq!(registry.containers().count(), 0);
    add(&mut registry, PIDS, 36, paths[1]);
    assert_eq!(registry.confirmed_sizes(), (0, 1));
}

#[test]
fn each_claim_is_looked_for_once() {
    let mut registry = docker();
    add(&mut registry, MEMORY, 40, "/a/agent/b");
    add(&mut registry, MEMORY, 41, "/a/agent/b/below");
    let claim = Claim::of("/a/agent/b").unwrap();
    assert!(registry.is_new_claim("/a/agent/c"));
    assert_eq!(registry.new_claims(9), std::slice::from_ref(&claim));
    assert_eq!(registry.new_claims(9), []);
    assert!(!registry.is_new_claim("/a/agent/b"));
    assert_eq!(registry.unconfirmed(9), [claim]);
    assert_eq!(registry.unconfirmed(0), []);
}

#[test]
fn claims_that_nobody_confirms_are_given_in_turn() {
    let mut registry = docker();
    for number in 0..5 {
        add(
            &mut registry,
            MEMORY,
            40 + number,
            &format!("/a/agent/{number}"),
        );
    }
    let mut given = |most| -> Vec<String> {
        let claims = registry.unconfirmed(most).into_iter();
        claims.map(|it| it.id).collect()
    };
    assert_eq!(given(2), ["4", "3"]);
    assert_eq!(given(2), ["2", "1"]);
    assert_eq!(given(2), ["0", "4"]);
    assert_eq!(given(9).len(), 5);
}

#[test]
fn a_namespace_is_its_living_owners() {
    let mut registry = docker();
    add(&mut registry, MEMORY, 40, "/agent/b");
    let mut a = task(5, 20, 30);
    a.namespaces[NET] = 77;
    registry.set_populated(key(MEMORY, 20), true, 100);
    registry.set_init(&a);
    assert_eq!(registry.owner(NET, 77).unwrap().id, ID);
    registry.set_populated(key(MEMORY, 20), false, 200);
    assert_eq!(registry.owner(NET, 77), None);
    // The kernel gives the inode out again.
    let mut b = task(6, 40, 1);
    b.namespaces[NET] = 77;
    registry.set_populated(key(MEMORY, 40), true, 300);
    registry.set_init(&b);
    assert_eq!(registry.owner(NET, 77).unwrap().id, "/agent/b");
}

#[test]
fn a_namespace_is_nobodys_once_the_first_process_has_left_it() {
    let mut registry = docker();
    let mut init = task(5, 20, 30);
    init.namespaces[NET] = 77;
    registry.set_populated(key(MEMORY, 20), true, 100);
    registry.set_init(&init);
    // Another process of the container, or another thread of its first, goes its own way.
    for (pid, tid) in [(6, 6), (5, 7)] {
        let mut other = Task { pid, tid, ..init };
        other.namespaces[NET] = 78;
        registry.set_namespaces(&other);
        assert_eq!(registry.owner(NET, 77).unwrap().id, ID);
        assert_eq!(registry.owner(NET, 78), None);
    }
    init.namespaces[NET] = 79;
    registry.set_namespaces(&init);
    assert_eq!(registry.owner(NET, 77), None);
    assert_eq!(registry.owner(NET, 79).unwrap().id, ID);
    // The container runs on without it.
    registry.set_exit(&init, 0, 200);
    assert_eq!(registry.owner(NET, 79), None);
    assert_eq!(registry.containers().next().unwrap().life.init(), None);
}

#[test]
fn what_was_found_runs_and_its_oldest_process_is_the_first() {
    let mut registry = docker();
    assert!(registry.set_found(&task(5, 20, 30)));
    assert!(!registry.set_found(&task(6, 20, 30)));
    assert_eq!(
        registry
            .containers()
            .next()
            .unwrap()
            .life
            .init()
            .unwrap()
            .pid,
        5
    );
    assert_eq!(registry.set_populated(key(MEMORY, 20), false, 200), None);
    let stop = registry.set_populated(key(PIDS, 30), false, 201);
    assert_eq!(stop.unwrap().action, ContainerAction::Stop);
}

#[test]
fn cgroups_below_a_container_have_no_life_of_their_own() {
    let mut registry = docker();
    add(&mut registry, MEMORY, 25, &format!("/docker/{ID}/agent/x"));
    assert_eq!(registry.set_populated(key(MEMORY, 25), true, 100), None);
    assert_eq!(name(&registry, &task(5, 25, 1)), ID[..12]);
    assert_eq!(
        registry.get(key(MEMORY, 25)).unwrap().container.kind,
        ContainerKind::Container
    );
    assert_eq!(registry.containers().count(), 1);
}

#[test]
fn a_path_that_comes_and_goes_in_one_hierarchy_does_not_grow() {
    let mut registry = Registry::new(HOST);
    add(&mut registry, MEMORY, 20, "/a");
    for id in 100..1000 {
        add(&mut registry, PIDS, id, "/a");
        remove(&mut registry, key(PIDS, id));
    }
    assert_eq!(registry.sizes(), (1, 0));
    assert_eq!(registry.by_key.len(), 1 + GONE_AT_MOST);
    assert_eq!(name(&registry, &task(5, 20, 999)), "/a");
}

#[test]
fn what_was_counted_in_a_stranger_is_kept() {
    let mut registry = Registry::new(HOST);
    let counts = Counts {
        oom_limit_kills: 2,
        ..Counts::default()
    };
    registry.remove(key(PIDS, 9), &counts, Instant::now());
    assert_eq!(registry.unknown().oom_limit_kills, 2);
}

#[test]
fn the_churn_of_others_makes_no_dead_container_forgotten() {
    let mut registry = docker();
    remove(&mut registry, key(MEMORY, 20));
    remove(&mut registry, key(PIDS, 30));
    for id in 0..2 * DEAD_AT_MOST as u64 {
        add(&mut registry, PIDS, 100 + id, &format!("/a/{id}"));
        remove(&mut registry, key(PIDS, 100 + id));
    }
    assert_eq!(registry.sizes(), (0, DEAD_AT_MOST));
    assert_eq!(name(&registry, &task(5, 20, 30)), ID[..12]);
}

fn past(registry: &Registry, key: CgroupKey) -> Counts {
    registry.get(key).unwrap().past()
}

#[test]
fn counts_go_on_where_a_container_is_restarted() {
    let mut registry = docker();
    let counts = |execs| Counts {
        execs,
        ..Counts::default()
    };
    let now = Instant::now();
    registry.remove(key(MEMORY, 20), &counts(1), now);
    registry.remove(key(PIDS, 30), &counts(2), now);
    for (again, memory) in [(3, 21), (3 + 10, 22)] {
        add(&mut registry, MEMORY, memory, &format!("/docker/{ID}"));
        let cgroup = registry.get(key(MEMORY, memory)).unwrap();
        assert_eq!(cgroup.counted(&HashMap::new()), counts(again));
        registry.remove(key(MEMORY, memory), &counts(10), now);
    }
    let all = registry.all().map(|cgroup| cgroup.past().execs);
    assert_eq!(all.sum::<u64>(), 23);
    // Elsewhere it is another series.
    add(
        &mut registry,
        MEMORY,
        23,
        &format!("/elsewhere/docker/{ID}"),
    );
    assert_eq!(past(&registry, key(MEMORY, 23)), counts(0));
    // What is forgotten begins anew.
    add(&mut registry, PIDS, 40, "/plain");
    registry.remove(key(PIDS, 40), &counts(5), now);
    registry.forget(now + DEAD_FOR);
    assert!(registry.dead_by_path.is_empty());
    add(&mut registry, PIDS, 41, "/plain");
    assert_eq!(past(&registry, key(PIDS, 41)), counts(0));
}

#[test]
fn a_users_dead_containers_make_nobody_elses_forgotten() {
    let mut registry = docker();
    remove(&mut registry, key(MEMORY, 20));
    remove(&mut registry, key(PIDS, 30));
    let mut live_and_die = |id: u64, user: u32| {
        let path = format!("/u{user}/agent/c{id}");
        add(&mut registry, PIDS, id, &path);
        let of = Confirmation::of(&Claim::of(&path).unwrap());
        registry.confirm([Confirmation { user, ..of }]);
        remove(&mut registry, key(PIDS, id));
    };
    live_and_die(99, 7);
    for id in 0..2 * DEAD_AT_MOST as u64 {
        live_and_die(100 + id, 4242);
    }
    assert_eq!(registry.sizes(), (0, DEAD_AT_MOST));
    assert_eq!(name(&registry, &task(5, 20, 30)), ID[..12]);
    assert_eq!(name(&registry, &task(5, 1, 99)), "c99");
}
