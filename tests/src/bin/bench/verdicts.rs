//! Whether `agent verify` is right: it judges set-ups whose verdict is known: right ones, idle ones, those that somebody
//! sabotages, before the run or while it goes on, and those of which something cannot be known.

#[rustfmt::skip]
mod blind;
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

/// Those that this host can have.
fn setups() -> Vec<Setup> {
    let parts = [
        table::setups(),
        seen::setups(),
        blind::setups(),
        blind_standing::setups(),
    ];
    let all = parts.into_iter().flatten();
    let v1 = Cgroup::is_v1("blkio");
    // To try some of them.
    let part = std::env::var("BENCH_SETUPS").unwrap_or_default();
    let wanted = all.filter(|it| (!it.only_v1 || v1) && it.name.contains(&part));
    wanted.collect()
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
