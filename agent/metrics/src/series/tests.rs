//! The series that are left out.

use std::time::Instant;

use agent_ebpf::{Counts, NAMESPACES};
use agent_registry::claim::Confirmation;

use super::*;

fn id(number: u64) -> String {
    format!("{number:064x}")
}

/// Makes cgroups with these paths, each a second younger than the one before.
fn registry(paths: impl IntoIterator<Item = String>) -> Registry {
    let mut registry = Registry::new([1; NAMESPACES]);
    for (number, path) in (2..).zip(paths) {
        let created = UNIX_EPOCH + Duration::from_secs(number);
        registry.add(key(number), &path, created);
    }
    let claims = registry.new_claims(usize::MAX);
    registry.confirm(claims.iter().map(Confirmation::of));
    registry
}

fn key(id: u64) -> CgroupKey {
    CgroupKey {
        id,
        hierarchy: 4,
        zero: 0,
    }
}

/// Returns the paths of the cgroups that have series, where each needs the given number.
fn chosen(registry: &Registry, bounds: Bounds, series: u32) -> (Vec<String>, LeftOut) {
    let mut seen = Seen::default();
    for cgroup in registry.all() {
        seen.set(cgroup.directories[0].key, series);
    }
    let choice = Choice {
        which: Which::All,
        bounds,
        seen: &mut seen,
    };
    let (chosen, left_out) = choice.of(registry, &[]);
    let paths = chosen.iter().map(|it| it.directories[0].path.to_string());
    (paths.collect(), left_out)
}

#[test]
fn plain_cgroups_go_first_then_units_then_the_newest_containers() {
    let (old, new) = (format!("/docker/{}", id(1)), format!("/docker/{}", id(2)));
    let below = format!("{old}/below");
    let unit = "/system.slice/a.service".to_owned();
    let all = [
        "/plain".to_owned(),
        unit.clone(),
        old.clone(),
        new.clone(),
        below.clone(),
    ];
    let mut registry = registry(all);
    let with = |registry: &Registry, all| {
        let bounds = Bounds {
            all,
            container: 9_999,
        };
        chosen(registry, bounds, 10).0
    };
    assert_eq!(
        with(&registry, 600),
        [
            old.clone(),
            new.clone(),
            unit.clone(),
            below.clone(),
            "/plain".into()
        ]
    );
    // Cgroups that are no containers have a sixth.
    assert_eq!(with(&registry, 60), [old.clone(), new.clone(), unit]);
    assert_eq!(with(&registry, 20), [old.clone(), new.clone()]);
    assert_eq!(with(&registry, 19), std::slice::from_ref(&old));
    // Removed cgroups are left out before existing ones.
    registry.remove(key(4), &Counts::default(), Instant::now());
    assert_eq!(with(&registry, 19), [new]);
}

/// Confirms the container at `path` by a record of the user `user`.
fn give(registry: &mut Registry, path: &str, user: u32) {
    let claim = agent_registry::claim::Claim::of(path).unwrap();
    registry.confirm([Confirmation {
        user,
        ..Confirmation::of(&claim)
    }]);
}

#[test]
fn users_have_a_share_and_take_turns() {
    let paths = |user: u32, count: u32| (0..count).map(move |it| format!("/{user}/agent/c{it}"));
    let root = format!("/docker/{}", id(1));
    let all = paths(7, 900).chain(paths(8, 3)).chain([root.clone()]);
    let mut registry = Registry::new([1; NAMESPACES]);
    for (number, path) in (2..).zip(all) {
        registry.add(key(number), &path, UNIX_EPOCH + Duration::from_secs(number));
    }
    for user in [7, 8] {
        paths(user, if user == 7 { 900 } else { 3 })
            .for_each(|path| give(&mut registry, &path, user));
    }
    give(&mut registry, &root, 0);
    let bounds = Bounds {
        all: 1_200,
        container: 9_999,
    };
    // The newest container of root's comes first, and user 8 has its three.
    let (chosen, left_out) = chosen(&registry, bounds, 20);
    assert_eq!(chosen[0], root);
    assert_eq!(chosen.len(), 1 + 1_200 / 3 / 20);
    let of_8 = chosen.iter().filter(|path| path.starts_with("/8/"));
    assert_eq!(of_8.count(), 3);
    assert!(chosen.contains(&"/7/agent/c0".to_owned()));
    assert_eq!(left_out[Sort::User as usize], [903 - 20, 0]);
}

#[test]
fn a_container_has_so_many_with_those_below_it() {
    let container = format!("/docker/{}", id(1));
    let below = (0..100).map(|number| format!("{container}/{number}"));
    let other = format!("/docker/{}", id(2));
    let registry = registry([container.clone(), other].into_iter().chain(below));
    let bounds = Bounds {
        all: 600_000,
        container: 2_000,
    };
    let (chosen, left_out) = chosen(&registry, bounds, 100);
    assert_eq!(chosen.len(), 2 + 19);
    assert_eq!(
        left_out[Sort::Below as usize][Bound::Container as usize],
        81
    );
}

#[test]
fn the_defaults_drop_no_container_below_5000_and_bound_the_rest() {
    let containers = (0..5_000).map(|number| format!("/docker/{}", id(number)));
    let plain = (0..20_000).map(|number| format!("/user/{number}"));
    let registry = registry(plain.chain(containers));
    let (chosen, left_out) = chosen(&registry, Bounds::DEFAULT, 100);
    let containers = chosen.iter().filter(|path| path.starts_with("/docker/"));
    assert_eq!(containers.count(), 5_000);
    assert_eq!(chosen.len(), 6_000);
    assert_eq!(left_out[Sort::Cgroup as usize], [19_000, 0]);
    // The oldest stay, so each scrape has the same cgroups.
    assert!(chosen.contains(&"/user/999".to_owned()));
}

#[test]
fn what_was_seen_is_kept_as_long_as_the_cgroup() {
    let registry = registry(["/a".to_owned(), "/b".to_owned()]);
    let cgroup = |path: &str| {
        let mut all = registry.all();
        all.find(|it| *it.directories[0].path == *path).unwrap()
    };
    let mut seen = Seen::default();
    assert_eq!(seen.series(cgroup("/a")), EXPECTED);
    for series in [7, 90, 50] {
        seen.set(key(2), series);
        seen.set(key(3), series);
    }
    assert_eq!(seen.series(cgroup("/a")), 90);
    seen.retain([cgroup("/b")].into_iter());
    assert_eq!(seen.0.len(), 1);
}
