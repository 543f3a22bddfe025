//! What containers are called, and since when.

use std::time::{Duration, SystemTime};

use agent_ebpf::CgroupKey;
use agent_model::labels::{LabelPatterns, PodName};
use agent_model::limit::{Kind, Limit, Source, Value};
use agent_model::text::NAME_BYTES;

use super::*;
use crate::claim::Claim;

const ID: &str = "9adc5277a29e0d474e8b1b1f44dd6af50352684d11bcb255637520a05f975b59";

fn named(name: &str) -> Named {
    Named {
        name: name.to_owned(),
        image: "busybox".to_owned(),
        ..Named::default()
    }
}

fn told(id: &str, name: &str) -> EngineMessage {
    EngineMessage::Named(id.to_owned(), named(name))
}

fn registry() -> Registry {
    Registry::new([1; agent_ebpf::NAMESPACES])
}

fn intent(tasks: u64) -> Arc<Intent> {
    let limit = Value::Amount(Limit::Value(tasks));
    Arc::new(Intent::new(vec![(Kind::Pids, limit)], Source::Docker))
}

fn key(id: u64) -> CgroupKey {
    CgroupKey {
        id,
        hierarchy: 4,
        zero: 0,
    }
}

fn confirm(registry: &mut Registry) {
    let claim = Claim::of(&format!("/docker/{ID}")).unwrap();
    registry.confirm([Confirmation::of(&claim)]);
}

/// Makes the container's cgroup and one below, and confirms it.
fn add(registry: &mut Registry) {
    add_claimed(registry);
    confirm(registry);
}

fn add_claimed(registry: &mut Registry) {
    let paths = [format!("/docker/{ID}"), format!("/docker/{ID}/below")];
    for (path, id) in paths.iter().zip(20..) {
        registry.add(key(id), path, SystemTime::UNIX_EPOCH);
    }
}

/// What the container and the cgroup below it go by.
#[track_caller]
fn assert_called(registry: &Registry, name: &str, image: &str) {
    for id in [20, 21] {
        let container = &registry.get(key(id)).unwrap().container;
        assert_eq!((&*container.name, &*container.image), (name, image));
    }
}

#[test]
fn what_an_engine_says_is_not_said_of_a_users_claim() {
    let claim = Claim::of(&format!("/docker/{ID}")).unwrap();
    let by_user = Confirmation {
        user: 1000,
        ..Confirmation::of(&claim)
    };
    let (mut before, mut after) = (registry(), registry());
    before.apply(told(ID, "web"), Instant::now());
    for registry in [&mut before, &mut after] {
        add_claimed(registry);
        registry.confirm([by_user.clone()]);
    }
    after.apply(told(ID, "web"), Instant::now());
    for mut registry in [before, after] {
        registry.apply(
            EngineMessage::Intended(ID.to_owned(), intent(9)),
            Instant::now(),
        );
        assert_called(&registry, &ID[..12], "unknown");
        let cgroup = registry.get(key(20)).unwrap();
        assert!(cgroup.intended.is_none());
    }
}

#[test]
fn a_name_holds_whether_it_is_told_before_the_cgroup_or_after() {
    let (mut before, mut after) = (registry(), registry());
    before.apply(told(ID, "web"), Instant::now());
    add(&mut before);
    add(&mut after);
    assert_called(&after, &ID[..12], "unknown");
    after.apply(told(ID, "web"), Instant::now());
    for mut registry in [before, after] {
        assert_called(&registry, "web", "busybox");
        registry.apply(told(ID, "other"), Instant::now());
        registry.apply(EngineMessage::Removed(ID.to_owned()), Instant::now());
        assert_called(&registry, "other", "busybox");
        registry.apply(
            EngineMessage::Named(ID.to_owned(), Named::default()),
            Instant::now(),
        );
        assert_called(&registry, "other", "busybox");
    }
}

#[test]
fn what_a_record_says_holds_until_the_engine_says_otherwise() {
    let claim = Claim::of(&format!("/docker/{ID}")).unwrap();
    let labels = |value| LabelPatterns::all().select([("team", value)]);
    let pod = Some(PodName {
        namespace: "prod".to_owned(),
        pod: "web-0".to_owned(),
        container: String::new(),
    });
    let record = Confirmation {
        named: Some(Named {
            labels: labels("blue"),
            pod: pod.clone(),
            ..named("of-record")
        }),
        intended: Some(intent(1)),
        ..Confirmation::of(&claim)
    };
    let engine = Named {
        labels: labels("red"),
        ..named("web")
    };
    let (mut before, mut after) = (registry(), registry());
    before.apply(
        EngineMessage::Named(ID.to_owned(), engine.clone()),
        Instant::now(),
    );
    before.apply(
        EngineMessage::Intended(ID.to_owned(), intent(2)),
        Instant::now(),
    );
    for registry in [&mut before, &mut after] {
        add_claimed(registry);
        registry.confirm([record.clone()]);
    }
    assert_called(&after, "of-record", "busybox");
    let container = |registry: &Registry| registry.get(key(20)).unwrap().container.clone();
    assert_eq!(container(&after).labels, labels("blue"));
    assert_eq!(after.get(key(20)).unwrap().intended, Some(intent(1)));
    after.apply(EngineMessage::Named(ID.to_owned(), engine), Instant::now());
    after.apply(
        EngineMessage::Intended(ID.to_owned(), intent(2)),
        Instant::now(),
    );
    for mut registry in [before, after] {
        // The record may be read again.
        registry.confirm([record.clone()]);
        assert_called(&registry, "web", "busybox");
        assert_eq!(container(&registry).labels, labels("red"));
        assert_eq!(container(&registry).pod, pod);
        assert_eq!(registry.get(key(20)).unwrap().intended, Some(intent(2)));
    }
}

#[test]
fn intended_limits_are_those_of_the_container_and_no_other() {
    let intended =
        |registry: &Registry| [20, 21].map(|id| registry.get(key(id)).unwrap().intended.clone());
    let tell = |registry: &mut Registry, tasks| {
        registry.apply(
            EngineMessage::Intended(ID.to_owned(), intent(tasks)),
            Instant::now(),
        );
    };
    let (mut before, mut after) = (registry(), registry());
    for registry in [&mut before, &mut after] {
        // Of one that nobody named nothing is kept.
        tell(registry, 1);
        registry.apply(told(ID, "web"), Instant::now());
    }
    tell(&mut before, 50);
    add(&mut before);
    add(&mut after);
    assert_eq!(intended(&after), [None, None]);
    tell(&mut after, 50);
    for mut registry in [before, after] {
        assert_eq!(intended(&registry), [Some(intent(50)), None]);
        tell(&mut registry, 70);
        registry.apply(told(ID, "other"), Instant::now());
        assert_eq!(intended(&registry), [Some(intent(70)), None]);
    }
}

#[test]
fn a_dead_container_gets_its_name_too() {
    let mut registry = registry();
    add(&mut registry);
    for id in [21, 20] {
        registry.remove(key(id), &agent_ebpf::Counts::default(), Instant::now());
    }
    registry.apply(
        EngineMessage::All(vec![(ID.to_owned(), named("late"))]),
        Instant::now(),
    );
    assert_called(&registry, "late", "busybox");
}

#[test]
fn a_claim_has_no_name_until_it_is_confirmed() {
    let mut registry = registry();
    let path = format!("/docker/{ID}");
    registry.apply(told(ID, "web"), Instant::now());
    add_claimed(&mut registry);
    registry.apply(
        EngineMessage::All(vec![(ID.to_owned(), named("web"))]),
        Instant::now(),
    );
    registry.apply(
        EngineMessage::Intended(ID.to_owned(), intent(5)),
        Instant::now(),
    );
    assert_called(&registry, &path, "unknown");
    assert_eq!(registry.get(key(20)).unwrap().intended, None);
    // Another cgroup's confirmation is not this one's.
    let elsewhere = Claim::of(&format!("/elsewhere/docker/{ID}")).unwrap();
    registry.confirm([Confirmation::of(&elsewhere)]);
    assert_called(&registry, &path, "unknown");
    confirm(&mut registry);
    assert_called(&registry, "web", "busybox");
    assert_eq!(registry.get(key(20)).unwrap().intended, Some(intent(5)));
}

#[test]
fn a_container_of_agent_run_is_called_by_its_own_state_and_nobody_else() {
    let mut registry = registry();
    for (path, id) in [
        ("/agent/web", 20),
        ("/agent/web/below", 21),
        ("/agent/db", 22),
    ] {
        registry.add(key(id), path, SystemTime::UNIX_EPOCH);
    }
    let confirmation = Confirmation {
        named: Some(named("web")),
        intended: Some(intent(50)),
        ..Confirmation::of(&Claim::of("/agent/web").unwrap())
    };
    registry.confirm([confirmation]);
    registry.apply(told("web", "other"), Instant::now());
    registry.apply(
        EngineMessage::Intended("web".to_owned(), intent(7)),
        Instant::now(),
    );
    registry.apply(EngineMessage::All(Vec::new()), Instant::now());
    assert_called(&registry, "web", "busybox");
    let intended = |id| registry.get(key(id)).unwrap().intended.clone();
    assert_eq!([20, 21, 22].map(intended), [Some(intent(50)), None, None]);
    let unknown = &registry.get(key(22)).unwrap().container;
    assert_eq!((&*unknown.name, &*unknown.image), ("/agent/db", "unknown"));
}

#[test]
fn an_id_that_is_too_long_is_cut_everywhere() {
    let mut registry = registry();
    let now = Instant::now();
    let long = "x".repeat(NAME_BYTES + 1);
    for name in ["old", "new"] {
        registry.apply(told(&long, name), now);
        registry.apply(EngineMessage::All(vec![(long.clone(), named(name))]), now);
    }
    assert_eq!(registry.names.get(&long).unwrap().name, "new");
    assert_eq!((registry.named(), registry.names.removed.len()), (1, 0));
    registry.apply(EngineMessage::Removed(long), now);
    assert_eq!(registry.names.removed.len(), 1);
}

#[test]
fn the_removed_are_forgotten_after_a_while() {
    let mut registry = registry();
    let now = Instant::now();
    registry.apply(told("a", "a"), now);
    registry.apply(told("b", "b"), now);
    // Not in the list: it was removed while nobody listened.
    registry.apply(EngineMessage::All(vec![("b".to_owned(), named("b"))]), now);
    registry.apply(told("c", "c"), now + DEAD_FOR - Duration::from_secs(1));
    assert_eq!(registry.named(), 3);
    registry.apply(told("d", "d"), now + DEAD_FOR);
    assert_eq!(registry.named(), 3);
    assert!(registry.names.get("a").is_none());
}

#[test]
fn there_is_a_bound_and_the_removed_make_room() {
    let mut registry = registry();
    let now = Instant::now();
    for i in 0..NAMES_AT_MOST {
        registry.apply(told(&i.to_string(), "x"), now);
    }
    registry.apply(told("one", "more"), now);
    assert_eq!(
        (registry.named(), registry.names_refused()),
        (NAMES_AT_MOST, 1)
    );
    registry.apply(EngineMessage::Removed("7".to_owned()), now);
    registry.apply(told("one", "more"), now);
    assert_eq!(
        (registry.named(), registry.names_refused()),
        (NAMES_AT_MOST, 1)
    );
    assert!(registry.names.get("one").is_some() && registry.names.get("7").is_none());
    // Made and removed again and again.
    for _ in 0..2 * NAMES_AT_MOST {
        registry.apply(told("one", "more"), now);
        registry.apply(EngineMessage::Removed("one".to_owned()), now);
    }
    assert!(registry.names.removed.len() <= NAMES_AT_MOST);
    assert_eq!(cut(&"ü".repeat(300)).len(), NAME_BYTES);
}

#[test]
fn what_an_engine_has_and_does_not_run_is_known_without_a_cgroup() {
    let mut registry = Registry::new([1; agent_ebpf::NAMESPACES]);
    let now = Instant::now();
    let with = |run| Named {
        run,
        ..named("web")
    };
    let runs = [
        RunState::Unreported,
        RunState::Never,
        RunState::Started,
        RunState::Ended,
    ];
    let list = ["a", "b", "c", "d"]
        .map(str::to_owned)
        .into_iter()
        .zip(runs.map(with));
    registry.apply(EngineMessage::All(list.collect()), now);
    let known = |registry: &Registry| {
        let mut known: Vec<_> = registry
            .without_cgroup()
            .into_iter()
            .map(|(id, named)| (id.to_owned(), named.run))
            .collect();
        known.sort_by(|a, b| a.0.cmp(&b.0));
        known
    };
    let of = |id: &str, run| (id.to_owned(), run);
    assert_eq!(
        known(&registry),
        [of("b", RunState::Never), of("d", RunState::Ended)]
    );
    registry.apply(EngineMessage::Ended("c".to_owned()), now);
    registry.apply(
        EngineMessage::Named("b".to_owned(), with(RunState::Started)),
        now,
    );
    // A new name says nothing of that.
    registry.apply(EngineMessage::Named("c".to_owned(), named("db")), now);
    registry.apply(EngineMessage::Removed("d".to_owned()), now);
    assert_eq!(known(&registry), [of("c", RunState::Ended)]);
    // Whose cgroup is known is told of by that.
    let id = "c".repeat(64);
    registry.apply(EngineMessage::Named(id.clone(), with(RunState::Ended)), now);
    assert_eq!(known(&registry).len(), 2);
    let key = CgroupKey {
        id: 20,
        hierarchy: 4,
        zero: 0,
    };
    let path = format!("/docker/{id}");
    registry.add(key, &path, SystemTime::UNIX_EPOCH);
    // Anybody may make a cgroup that claims to be it.
    assert_eq!(known(&registry).len(), 2);
    registry.confirm([Confirmation::of(&Claim::of(&path).unwrap())]);
    assert_eq!(known(&registry), [of("c", RunState::Ended)]);
}
