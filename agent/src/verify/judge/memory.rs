//! Memory: a limit holds where usage never went above it; the kernel reclaims, swaps or kills to see to that.

use super::{Finding, Run, number};
use crate::host::hierarchy::Version;
use crate::host::reading::Field;
use crate::limit::Held;
use crate::units::size;
use crate::verify::report::{Memory, Observed, Stimulus, Tolerance, Verdict};

/// Pages that each CPU charges ahead (`MEMCG_CHARGE_BATCH`, `include/linux/memcontrol.h`).
const BATCH: u64 = 64;

const WHY: &str = "each CPU charges up to 64 pages ahead (MEMCG_CHARGE_BATCH)";

/// A peak, and whether it is no more than the highest sample.
struct Peak {
    bytes: u64,
    sampled: bool,
}

pub fn memory(limit: &Held, run: &Run) -> Finding {
    let limit = number(limit);
    let slack = tolerance(run);
    let peak = peak(run);
    let hits = difference(run, |it| it.reading.number(Field::Failcnt));
    let kills = difference(run, |it| it.hits.oom_kills);
    let swap = swap_peak(run);
    let pressed = hits.unwrap_or(0) > 0 || kills.unwrap_or(0) > 0 || peak.bytes + slack >= limit;
    let traced = run.victims.as_ref().map(|victims| victims.len() as u64);
    let (verdict, reason) = if peak.bytes > limit.saturating_add(slack) {
        let reason = format!("usage reached {}, above {}", size(peak.bytes), size(limit));
        (Verdict::Fail, reason)
    } else if let (Some(counted), Some(traced)) = (kills, traced)
        && counted != traced
    {
        let reason =
            format!("the kernel counts {counted} OOM kills, and {traced} were traced: no verdict");
        (Verdict::Inconclusive, reason)
    } else if !pressed {
        let reason = format!(
            "usage reached {} of {}, and nothing pressed against the limit; stress-ng --vm 1 --vm-bytes {}m --vm-keep would",
            size(peak.bytes),
            size(limit),
            2 * (limit >> 20).max(1),
        );
        (Verdict::Inconclusive, reason)
    } else {
        (Verdict::Pass, held(limit, hits, kills, swap))
    };
    Finding {
        stimulus: Some(stimulus(pressed, hits, &peak, limit)),
        observed: Some(Observed::Memory(Memory {
            peak_bytes: peak.bytes,
            peak_sampled: peak.sampled,
            hits,
            oom_kills: kills,
            victims: run.victims.clone(),
            swap_peak_bytes: swap,
        })),
        tolerance: Some(Tolerance {
            value: size(slack),
            why: WHY,
        }),
        verdict,
        reason,
    }
}

fn held(limit: u64, hits: Option<u64>, kills: Option<u64>, swap: Option<u64>) -> String {
    let mut reason = format!("held at {}", size(limit));
    if let Some(hits) = hits.filter(|hits| *hits > 0) {
        reason += &format!(", run into {hits} times");
    }
    match kills {
        Some(1) => reason += ", 1 process OOM-killed",
        Some(kills @ 2..) => reason += &format!(", {kills} processes OOM-killed"),
        _ => {}
    }
    if let Some(swap) = swap.filter(|swap| *swap > 0) {
        reason += &format!("; {} went to swap", size(swap));
    }
    reason
}

fn stimulus(pressed: bool, hits: Option<u64>, peak: &Peak, limit: u64) -> Stimulus {
    let what = match hits {
        Some(hits) if hits > 0 => format!("the limit was run into {hits} times"),
        _ => format!("usage reached {} of {}", size(peak.bytes), size(limit)),
    };
    Stimulus { pressed, what }
}

fn tolerance(run: &Run) -> u64 {
    BATCH * run.host.page * run.host.cpus as u64
}

/// The kernel's own peak is that of the cgroup's life: one that was there before the run tells nothing of it.
fn peak(run: &Run) -> Peak {
    let of = |sample: &super::Sample| sample.reading.number(Field::MaxUsage);
    match (of(&run.before), of(&run.after)) {
        (before, Some(after)) if before.is_none_or(|before| before < after) => Peak {
            bytes: after,
            sampled: false,
        },
        _ => Peak {
            bytes: run.memory_peak,
            sampled: true,
        },
    }
}

fn swap_peak(run: &Run) -> Option<u64> {
    let counted = run.after.reading.number(Field::Swap);
    let kept = run.after.hits.swap_peak;
    counted.or(kept)?;
    Some(run.swap_peak.max(kept.unwrap_or(0)))
}

fn difference(run: &Run, of: impl Fn(&super::Sample) -> Option<u64>) -> Option<u64> {
    let after = of(&run.after)?;
    Some(after.saturating_sub(of(&run.before).unwrap_or(0)))
}

/// v1 limits memory and swap together, v2 swap alone.
pub fn swap(limit: &Held, version: Version, run: &Run) -> Finding {
    let limit = number(limit);
    let slack = tolerance(run);
    let (what, peak, hits) = match version {
        Version::V1 => (
            "memory and swap",
            run.after.hits.both_peak.unwrap_or(0),
            difference(run, |it| it.hits.both_hits),
        ),
        Version::V2 => (
            "swap",
            swap_peak(run).unwrap_or(0),
            difference(run, |it| it.hits.swap_hits),
        ),
    };
    let pressed = hits.unwrap_or(0) > 0 || (limit > 0 && peak + slack >= limit);
    let (verdict, reason) = if peak > limit.saturating_add(slack) {
        let reason = format!("{what} reached {}, above {}", size(peak), size(limit));
        (Verdict::Fail, reason)
    } else if pressed {
        let reason = format!("{what} held at {}, reached {}", size(limit), size(peak));
        (Verdict::Pass, reason)
    } else if run.host.swap == 0 {
        let reason = "this host has no swap, so the limit cannot be reached";
        (Verdict::Inconclusive, reason.to_owned())
    } else {
        let reason = format!(
            "{what} reached {} of {}, and nothing pressed against the limit",
            size(peak),
            size(limit)
        );
        (Verdict::Inconclusive, reason)
    };
    Finding {
        stimulus: Some(Stimulus {
            pressed,
            what: format!("{what} reached {} of {}", size(peak), size(limit)),
        }),
        observed: Some(Observed::Memory(Memory {
            peak_bytes: peak,
            peak_sampled: version == Version::V2 && run.after.hits.swap_peak.is_none(),
            hits,
            oom_kills: None,
            victims: None,
            swap_peak_bytes: swap_peak(run),
        })),
        tolerance: Some(Tolerance {
            value: size(slack),
            why: WHY,
        }),
        verdict,
        reason,
    }
}

/// memory.high does not keep usage below it: it slows down who goes above.
pub fn high(limit: &Held, run: &Run) -> Finding {
    let limit = number(limit);
    let peak = peak(run);
    let slowed = difference(run, |it| it.hits.high).unwrap_or(0);
    let (verdict, reason) = if slowed > 0 {
        let reason = format!(
            "slowed down {slowed} times above {}; usage reached {}",
            size(limit),
            size(peak.bytes)
        );
        (Verdict::Pass, reason)
    } else if peak.bytes > limit.saturating_add(tolerance(run)) {
        let reason = format!(
            "usage reached {}, above {}, and nothing was slowed down",
            size(peak.bytes),
            size(limit)
        );
        (Verdict::Fail, reason)
    } else {
        let reason = format!(
            "usage reached {} of {}, so nothing was to be slowed down",
            size(peak.bytes),
            size(limit)
        );
        (Verdict::Inconclusive, reason)
    };
    Finding {
        stimulus: Some(stimulus(slowed > 0, Some(slowed), &peak, limit)),
        observed: Some(Observed::Memory(Memory {
            peak_bytes: peak.bytes,
            peak_sampled: peak.sampled,
            hits: Some(slowed),
            oom_kills: None,
            victims: None,
            swap_peak_bytes: swap_peak(run),
        })),
        tolerance: None,
        verdict,
        reason,
    }
}
