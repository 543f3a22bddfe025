//! Whether `agent verify` is right: it judges set-ups whose verdict is known: right ones, idle ones, those that somebody
//! sabotages, before the run or while it goes on, and those of which something cannot be known.

#[rustfmt::skip]
mod blind;
#[rustfmt::skip]
mod blind_later;
#[rustfmt::skip]
mod blind_standing;
mod knob;
mod scene;
#[rustfmt::skip]
mod seen;
mod setup;
mod subject;
#[rustfmt::skip]
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use tests::cgroup::Cgroup;

use crate::cgroups::Guard;
use crate::report::{Figure, Unit};
use crate::{Size, console};
use scene::{Programs, Scene};
use setup::{Setup, Verdict};

pub fn measure(size: Size) -> Vec<Figure> {
    let guard = Guard::start();
    console::silence();
    let programs = Programs::copy();
    let setups = setups();
    let all = u32::try_from(setups.len()).unwrap_or(u32::MAX);
    let runs = size.count.unwrap_or(all);
    let setups = setups.iter().cycle().zip(0..runs);
    let wrong = setups.filter(|(setup, run)| !is_right(setup, *run, &guard, &programs));
    let wrong = wrong.count() as f64;
    vec![
        Figure::new("verdicts: runs", Unit::Count, f64::from(runs)),
        Figure::new("verdicts: wrong", Unit::Count, wrong)
            .at_most(0.0)
            .required(),
    ]
}

/// The environment variable that picks the set-ups whose names have this part.
const PART: &str = "BENCH_SETUPS";

/// Those that this host can have, or the part of them that is asked for.
///
/// # Panics
/// Where that part is empty.
fn setups() -> Vec<Setup> {
    let v1 = Cgroup::is_v1("blkio");
    let part = std::env::var(PART).unwrap_or_default();
    let all = seen().into_iter().chain(blind());
    let wanted = all.filter(|it| (v1 || !it.only_v1) && it.name.contains(&part));
    let wanted: Vec<Setup> = wanted.collect();
    assert!(!wanted.is_empty(), "{PART}={part}: no set-up has that name");
    wanted
}

/// By authors who know the code of `agent verify`.
fn seen() -> Vec<Setup> {
    [table::setups(), seen::setups()].concat()
}

/// By authors who knew what is written of it, and not its code.
fn blind() -> Vec<Setup> {
    [
        blind::setups(),
        blind_standing::setups(),
        blind_later::setups(),
    ]
    .concat()
}

/// Runs a set-up. Where the verdict is another one than it should be, or blames something else, says so.
fn is_right(setup: &Setup, run: u32, guard: &Guard, programs: &Programs) -> bool {
    let play = || Scene::new(setup, run, guard, programs).play();
    let Ok(output) = catch_unwind(AssertUnwindSafe(play)) else {
        eprintln!(
            "wrong: run {run}, {}: it did not come to a verdict",
            setup.name
        );
        return false;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_default();
    let is_right = report["verdict"] == setup.verdict.name()
        && output.status.code() == Some(setup.verdict.status())
        && has_reason(&report, setup)
        && has_checks(&report, setup);
    if !is_right {
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!(
            "wrong: run {run}, {}: wanted {} because of {:?} with {:?}, and it says with {}\n{text}{said}",
            setup.name,
            setup.verdict.name(),
            setup.reason,
            setup.checks,
            output.status
        );
    }
    is_right
}

/// Whether a check with the verdict says why.
fn has_reason(report: &Value, setup: &Setup) -> bool {
    let checks = report["checks"].as_array().into_iter().flatten();
    let mut reasons = checks
        .filter(|check| check["verdict"] == setup.verdict.name())
        .filter_map(|check| check["reason"].as_str());
    setup.reason.is_empty()
        || reasons.any(|reason| setup.reason.iter().all(|part| reason.contains(part)))
}

/// Whether each limit has the verdict that it should.
fn has_checks(report: &Value, setup: &Setup) -> bool {
    let checks = report["checks"].as_array();
    let of = |limit: &str, verdict: Verdict| {
        let mut checks = checks.into_iter().flatten();
        checks.any(|check| check["limit"] == limit && check["verdict"] == verdict.name())
    };
    setup
        .checks
        .iter()
        .all(|(limit, verdict)| of(limit, *verdict))
}

#[cfg(test)]
mod counts {
    use std::collections::BTreeSet;

    use super::{blind, seen};

    #[test]
    fn there_are_300_on_each_layout_and_half_of_them_are_blind() {
        for v1 in [true, false] {
            let has = |setups: Vec<super::Setup>| {
                let here = setups.iter().filter(|it| v1 || !it.only_v1);
                here.count()
            };
            let (seen, blind) = (has(seen()), has(blind()));
            println!("v1 {v1}: {seen} seen, {blind} blind");
            assert!(seen + blind >= 300, "{seen} + {blind}");
            assert!(blind >= seen, "{seen} and {blind}");
        }
    }

    #[test]
    fn each_name_means_one() {
        let mut names = BTreeSet::new();
        for setup in seen().into_iter().chain(blind()) {
            assert!(names.insert(setup.name.clone()), "two are {:?}", setup.name);
        }
    }
}
