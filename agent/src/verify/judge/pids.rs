//! Processes and threads: a limit holds where there were never more; what would be one too many gets EAGAIN from fork(2).

use super::{Finding, Run, number};
use crate::limit::Held;
use crate::verify::report::{Observed, Stimulus, Tolerance, Verdict};

pub fn pids(limit: &Held, run: &Run) -> Finding {
    let limit = number(limit);
    let before = run.before.hits.pids_peak;
    // The kernel's own peak is that of the cgroup's life.
    let kept = run
        .after
        .hits
        .pids_peak
        .filter(|after| before.is_none_or(|before| before < *after));
    let peak = kept.unwrap_or(run.pids_peak);
    let refused = run.after.hits.forks_refused.map(|after| {
        let before = run.before.hits.forks_refused.unwrap_or(0);
        after.saturating_sub(before)
    });
    let pressed = refused.unwrap_or(0) > 0;
    let (verdict, reason) = if peak > limit {
        let reason = format!("there were {peak} tasks, and {limit} is the limit");
        (Verdict::Fail, reason)
    } else if pressed {
        let refused = refused.unwrap_or(0);
        let reason = format!("held at {limit} tasks: {refused} forks refused with EAGAIN");
        (Verdict::Pass, reason)
    } else {
        let reason = format!(
            "there were at most {peak} of {limit} tasks, and no fork was refused; stress-ng --fork 4 --fork-max {limit} would press"
        );
        (Verdict::Inconclusive, reason)
    };
    Finding {
        stimulus: Some(Stimulus {
            pressed,
            what: format!("{} forks refused", refused.unwrap_or(0)),
        }),
        observed: Some(Observed::Pids {
            peak,
            peak_sampled: kept.is_none(),
            refused,
        }),
        tolerance: Some(Tolerance {
            value: "0 tasks".to_owned(),
            why: "each fork is charged before it happens (pids_can_fork)",
        }),
        verdict,
        reason,
    }
}
