//! Judges limits on tasks. A limit holds where the cgroup never had more tasks; fork(2) returns EAGAIN for the next
//! one.

use agent_model::limit::Held;

use super::{Finding, Run, number};
use crate::report::{Observed, Stimulus, Tolerance, Verdict};

/// The files with the number of tasks, and those with the number of refused forks.
const CURRENT: [&str; 2] = ["pids.current", "pids.peak"];
const EVENTS: [&str; 2] = ["pids.events", "pids.events.local"];

pub(super) fn pids(limit: &Held, run: &Run) -> Finding {
    let limit = number(limit);
    // The kernel keeps its peak since the cgroup was made.
    let kept = run.grown(|it| it.hits.pids_peak);
    let peak = kept.or(run.peaks.pids);
    let own = run.counted(|it| it.hits.forks_refused);
    let below = run.counted(|it| it.hits.forks_refused_below);
    let refused = own.map(|own| own + below.unwrap_or(0));
    let Finding {
        verdict, reason, ..
    } = verdict(limit, peak, refused, run);
    Finding {
        stimulus: refused.map(|refused| Stimulus {
            pressed: refused > 0,
            what: format!("{refused} forks refused"),
        }),
        observed: Some(Observed::Pids {
            peak,
            peak_sampled: kept.is_none(),
            refused: own,
            refused_below: below,
        }),
        tolerance: Some(Tolerance {
            value: "0 tasks".to_owned(),
            why: "each fork is charged before it happens (pids_can_fork)",
        }),
        verdict,
        reason,
    }
}

fn verdict(limit: u64, peak: Option<u64>, refused: Option<u64>, run: &Run) -> Finding {
    let Some(peak) = peak else {
        return run.unseen(&CURRENT, "how many tasks there were");
    };
    if peak > limit {
        let reason = format!("there were {peak} tasks, and {limit} is the limit");
        return Finding::of(Verdict::Fail, reason);
    }
    match refused {
        None => run.unseen(&EVENTS, "whether a fork was refused"),
        Some(0) => {
            let reason = format!(
                "there were at most {peak} of {limit} tasks, and no fork was refused; stress-ng --fork 4 --fork-max {limit} would press"
            );
            Finding::of(Verdict::Inconclusive, reason)
        }
        Some(refused) => {
            let reason = format!("held at {limit} tasks: {refused} forks refused with EAGAIN");
            Finding::of(Verdict::Pass, reason)
        }
    }
}
