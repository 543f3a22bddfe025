//! Judges whether the caller's limits bind what the caller started.
//!
//! Such a limit passes without a stimulus where the workload is at or below the cgroup that has the limit. Where it is
//! the effective limit and the workload pressed against it, the observation counts as well.

use agent_limits::limit::bound::Standing;
use agent_limits::limit::chain::Chain;
use agent_model::limit::Bound;

use super::{ClaimFacts, Finding, Undone, observation};
use crate::report::{Check, Effective, InFile, Intended, Verdict};

/// The source in the report.
const SOURCE: &str = "the caller";

/// Judges one limit of the caller.
pub(super) fn judge(facts: &ClaimFacts<'_>, chain: &Chain, bound: &Bound) -> Check {
    let links = chain.own.iter().chain(&chain.above);
    let mut same = links.filter(|link| link.cgroup == bound.link.cgroup);
    let Finding {
        stimulus,
        observed,
        tolerance,
        verdict,
        reason,
    } = finding(facts, chain, bound);
    Check {
        limit: chain.kind.flag(),
        device: chain.device.map(|device| device.to_string()),
        caller: true,
        by_default: false,
        intended: Some(Intended {
            value: bound.quantity(),
            source: SOURCE.to_owned(),
            cgroup: Some(bound.link.cgroup.clone()),
        }),
        written: None,
        read_back: same.next().map(|link| InFile {
            file: link.file.display().to_string(),
            text: link.text.clone(),
            note: None,
        }),
        effective: chain.effective().map(|link| Effective {
            value: chain.quantity(&link.held),
            cgroup: link.cgroup,
        }),
        stimulus,
        observed,
        tolerance,
        verdict,
        reason,
    }
}

/// Makes an inconclusive check of a limit of the caller that is not known.
pub(crate) fn unknown(limit: &'static str, reason: String) -> Check {
    Check {
        limit,
        device: None,
        caller: true,
        by_default: false,
        intended: None,
        written: None,
        read_back: None,
        effective: None,
        stimulus: None,
        observed: None,
        tolerance: None,
        verdict: Verdict::Inconclusive,
        reason,
    }
}

fn finding(facts: &ClaimFacts<'_>, chain: &Chain, bound: &Bound) -> Finding {
    let later = match facts.undone {
        Some(Undone::Moved(moved)) => return Finding::of(Verdict::Fail, moved.to_string()),
        Some(Undone::Changed(changed)) => Some(changed),
        Some(Undone::Written(_) | Undone::Unread(_)) | None => None,
    };
    let looks = [chain].into_iter().chain(later);
    if let Some(reason) = looks.filter_map(|chain| broken(bound, chain)).next() {
        return Finding::of(Verdict::Fail, reason);
    }
    let under = under(bound, chain);
    if let Some(Undone::Unread(unread)) = facts.undone {
        let reason = format!("{under} at first; {unread}");
        return Finding::of(Verdict::Inconclusive, reason);
    }
    let effective = chain.effective();
    let (Some(run), Some(effective)) = (facts.run, effective) else {
        return Finding::of(Verdict::Pass, under);
    };
    if !effective.held.is_same(&bound.link.held) {
        let held = chain.quantity(&effective.held).text;
        let tighter = format!("{under}; {held} of {} is tighter", effective.cgroup);
        return Finding::of(Verdict::Pass, tighter);
    }
    let seen = observation(bound.kind, &effective, chain, run);
    let pressed = seen.stimulus.as_ref().is_some_and(|it| it.pressed);
    match seen.verdict {
        Verdict::Inconclusive if !pressed => Finding {
            verdict: Verdict::Pass,
            reason: format!("{under}; nothing pressed against it"),
            ..seen
        },
        _ => seen,
    }
}

/// Returns why the limit does not hold, if it does not.
fn broken(bound: &Bound, chain: &Chain) -> Option<String> {
    let limit = bound.words();
    match chain.standing(bound) {
        Standing::Holds(_) => None,
        Standing::Loosened(link) => {
            let held = chain.quantity(&link.held).text;
            let file = link.file.display();
            Some(format!(
                "the caller was under {limit}, and {file} holds {held}"
            ))
        }
        Standing::Flat => Some(format!(
            "{limit} does not reach the cgroups below: v1 limits devices for each cgroup by itself"
        )),
        Standing::Outside => {
            let own = chain.own.as_ref().ok();
            let place = own.or(chain.above.first()).map(|link| &*link.cgroup);
            let place = place.unwrap_or("no cgroup of the hierarchy");
            Some(format!("it is in {place}, where {limit} does not bind it"))
        }
    }
}

/// Formats which cgroup makes the limit hold.
fn under(bound: &Bound, chain: &Chain) -> String {
    match chain.standing(bound) {
        Standing::Holds(link) if link.cgroup != bound.link.cgroup => {
            format!("it is under {}, whose limit is as tight", link.cgroup)
        }
        _ => format!("it is under {}", bound.link.cgroup),
    }
}
