//! Judges limits on memory. A limit holds where usage never exceeded it; the kernel reclaims, swaps or kills to keep
//! it.

use agent_host::reading::Field;
use agent_model::hierarchy::Version;
use agent_model::limit::{Held, Link};
use agent_model::units::size;

use super::{Finding, Run, number};
use crate::report::{Memory, Observed, Stimulus, Tolerance, Verdict};

/// The pages that each CPU charges ahead (`MEMCG_CHARGE_BATCH`, `include/linux/memcontrol.h`).
const BATCH: u64 = 64;

const WHY: &str = "each CPU charges up to 64 pages ahead (MEMCG_CHARGE_BATCH)";

/// The files with the usage, those with the number of times that the limit was hit, and that with the events of
/// `memory.high`.
const USAGE: [&str; 4] = [
    "memory.usage_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.current",
    "memory.peak",
];
const HITS: [&str; 2] = ["memory.failcnt", "memory.events.local"];
const EVENTS: [&str; 1] = ["memory.events"];

/// The files with the hits of memory and swap together, with the usage of swap, and with the hits of swap.
const BOTH_HITS: [&str; 1] = ["memory.memsw.failcnt"];
const SWAP_USAGE: [&str; 2] = ["memory.swap.current", "memory.swap.peak"];
const SWAP_HITS: [&str; 1] = ["memory.swap.events"];

/// A peak, and whether it is the highest sample instead of the kernel's own peak.
#[derive(Clone, Copy)]
struct Peak {
    bytes: Option<u64>,
    sampled: bool,
}

pub(super) fn memory(effective: &Link, run: &Run) -> Finding {
    let limit = number(&effective.held);
    let slack = tolerance(run);
    let peak = peak(run);
    let hits = run.counted(|it| it.reading.number(Field::Failcnt));
    let kills = run.counted(|it| it.hits.oom_kills);
    let swap = swap_peak(run);
    let reached = peak.bytes.is_some_and(|peak| peak >= limit) || killed(effective, run);
    let pressed = hits
        .map(|hits| hits > 0 || reached)
        .or(reached.then_some(true));
    let Finding {
        verdict, reason, ..
    } = of_memory(limit, pressed, peak, (hits, kills), run);
    Finding {
        stimulus: pressed.map(|pressed| stimulus(pressed, hits, peak, limit)),
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

/// Tells whether the OOM killer killed a process because of this limit. The limit may be an ancestor's, whose hits
/// include those of other cgroups.
fn killed(effective: &Link, run: &Run) -> bool {
    match &run.victims {
        Some(victims) => {
            let mut owners = victims
                .iter()
                .filter_map(|victim| victim.limit_owner.as_ref());
            owners.any(|owner| *owner == effective.cgroup)
        }
        None => run
            .counted(|it| it.hits.oom_kills_here)
            .is_some_and(|kills| kills > 0),
    }
}

fn of_memory(
    limit: u64,
    pressed: Option<bool>,
    peak: Peak,
    (hits, kills): (Option<u64>, Option<u64>),
    run: &Run,
) -> Finding {
    let Some(bytes) = peak.bytes else {
        return run.unseen(&USAGE, "how much memory was used");
    };
    if bytes > limit.saturating_add(tolerance(run)) {
        let reason = format!("usage reached {}, above {}", size(bytes), size(limit));
        return Finding::of(Verdict::Fail, reason);
    }
    let traced = run.victims.as_ref().map(|victims| victims.len() as u64);
    if let (Some(counted), Some(traced)) = (kills, traced)
        && counted != traced
    {
        let reason =
            format!("the kernel counts {counted} OOM kills, and {traced} were traced: no verdict");
        return Finding::of(Verdict::Inconclusive, reason);
    }
    match pressed {
        None => run.unseen(&HITS, "whether the limit was run into"),
        Some(true) => Finding::of(Verdict::Pass, held(limit, hits, kills, swap_peak(run))),
        Some(false) => {
            let reason = format!(
                "usage reached {} of {}, and nothing pressed against the limit; stress-ng --vm 1 --vm-bytes {}m --vm-keep would",
                size(bytes),
                size(limit),
                2 * (limit >> 20).max(1),
            );
            Finding::of(Verdict::Inconclusive, reason)
        }
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
        Some(0) => {}
        None => reason += "; how many were OOM-killed is not known",
    }
    if let Some(swap) = swap.filter(|swap| *swap > 0) {
        reason += &format!("; {} went to swap", size(swap));
    }
    reason
}

fn stimulus(pressed: bool, hits: Option<u64>, peak: Peak, limit: u64) -> Stimulus {
    let what = match (hits, peak.bytes) {
        (Some(hits), _) if hits > 0 => format!("the limit was run into {hits} times"),
        (_, Some(bytes)) => format!("usage reached {} of {}", size(bytes), size(limit)),
        (_, None) => "how much was used is not known".to_owned(),
    };
    Stimulus { pressed, what }
}

fn tolerance(run: &Run) -> u64 {
    BATCH * run.host.page * run.host.cpus as u64
}

/// Returns the kernel's own peak if it grew in the run, or else the highest sample. The kernel keeps its peak since the
/// cgroup was made, so a peak from before the run says nothing about the run.
fn peak(run: &Run) -> Peak {
    let kept = run.grown(|it| it.reading.number(Field::MaxUsage));
    Peak {
        bytes: kept.or(run.peaks.memory),
        sampled: kept.is_none(),
    }
}

/// Returns the highest swap usage. v1 keeps no peak of swap alone, so it is the highest sample there.
fn swap_peak(run: &Run) -> Option<u64> {
    run.grown(|it| it.hits.swap_peak).or(run.peaks.swap)
}

/// The limit on swap, or on memory and swap together, and what was observed.
struct Swap {
    what: &'static str,
    peak: Option<u64>,
    hits: Option<u64>,
    /// The names of the files with the usage, and of those with the hits.
    files: [&'static [&'static str]; 2],
}

impl Swap {
    /// Collects the observations. v1 limits memory and swap together, v2 swap alone.
    fn of(version: Version, run: &Run) -> Self {
        match version {
            Version::V1 => Self {
                what: "memory and swap",
                peak: run.grown(|it| it.hits.both_peak).or_else(|| {
                    // A page that the kernel moves to swap between the two readings counts twice. The kernel's own peak
                    // bounds the sum.
                    let most = run.after.hits.both_peak.unwrap_or(u64::MAX);
                    Some(run.peaks.both?.min(most))
                }),
                hits: run.counted(|it| it.hits.both_hits),
                files: [&USAGE, &BOTH_HITS],
            },
            Version::V2 => Self {
                what: "swap",
                peak: swap_peak(run),
                hits: run.counted(|it| it.hits.swap_hits),
                files: [&SWAP_USAGE, &SWAP_HITS],
            },
        }
    }

    fn judge(&self, limit: u64, pressed: Option<bool>, run: &Run) -> Finding {
        let Self { what, files, .. } = *self;
        let Some(peak) = self.peak else {
            return run.unseen(files[0], "how much was used");
        };
        if peak > limit.saturating_add(tolerance(run)) {
            let reason = format!("{what} reached {}, above {}", size(peak), size(limit));
            return Finding::of(Verdict::Fail, reason);
        }
        let open = |reason: String| Finding::of(Verdict::Inconclusive, reason);
        match pressed {
            None => run.unseen(files[1], "whether the limit was run into"),
            Some(true) => {
                let reason = format!("{what} held at {}, reached {}", size(limit), size(peak));
                Finding::of(Verdict::Pass, reason)
            }
            Some(false) if run.host.swap == Some(0) => {
                open("this host has no swap, so the limit cannot be reached".to_owned())
            }
            Some(false) => open(format!(
                "{what} reached {} of {}, and nothing pressed against the limit",
                size(peak),
                size(limit)
            )),
        }
    }
}

pub(super) fn swap(limit: &Held, version: Version, run: &Run) -> Finding {
    let limit = number(limit);
    let swap = Swap::of(version, run);
    let reached = limit > 0 && swap.peak.is_some_and(|peak| peak >= limit);
    let hits = swap.hits.map(|hits| hits > 0 || reached);
    let pressed = hits.or(reached.then_some(true));
    let Finding {
        verdict, reason, ..
    } = swap.judge(limit, pressed, run);
    let reached = swap.peak.map(|peak| {
        let what = swap.what;
        format!("{what} reached {} of {}", size(peak), size(limit))
    });
    Finding {
        stimulus: pressed
            .zip(reached)
            .map(|(pressed, what)| Stimulus { pressed, what }),
        observed: Some(Observed::Memory(Memory {
            peak_bytes: swap.peak,
            peak_sampled: version == Version::V2 && run.after.hits.swap_peak.is_none(),
            hits: swap.hits,
            oom_kills: None,
            victims: None,
            swap_peak_bytes: swap_peak(run),
        })),
        tolerance: Some(Tolerance {
            value: size(tolerance(run)),
            why: WHY,
        }),
        verdict,
        reason,
    }
}

/// Judges `memory.high`. It does not keep usage below the limit: the kernel slows down processes above it.
pub(super) fn high(limit: &Held, run: &Run) -> Finding {
    let limit = number(limit);
    let peak = peak(run);
    let slowed = run.counted(|it| it.hits.high);
    let Finding {
        verdict, reason, ..
    } = of_high(limit, peak, slowed, run);
    Finding {
        stimulus: slowed.map(|slowed| stimulus(slowed > 0, Some(slowed), peak, limit)),
        observed: Some(Observed::Memory(Memory {
            peak_bytes: peak.bytes,
            peak_sampled: peak.sampled,
            hits: slowed,
            oom_kills: None,
            victims: None,
            swap_peak_bytes: swap_peak(run),
        })),
        tolerance: None,
        verdict,
        reason,
    }
}

fn of_high(limit: u64, peak: Peak, slowed: Option<u64>, run: &Run) -> Finding {
    let Some(slowed) = slowed else {
        return run.unseen(&EVENTS, "whether anybody was slowed down");
    };
    let Some(bytes) = peak.bytes else {
        return run.unseen(&USAGE, "how much memory was used");
    };
    let (reached, limited) = (size(bytes), size(limit));
    if slowed > 0 {
        let reason = format!("slowed down {slowed} times above {limited}; usage reached {reached}");
        Finding::of(Verdict::Pass, reason)
    } else if bytes > limit.saturating_add(tolerance(run)) {
        let reason =
            format!("usage reached {reached}, above {limited}, and nothing was slowed down");
        Finding::of(Verdict::Fail, reason)
    } else {
        let reason =
            format!("usage reached {reached} of {limited}, so nothing was to be slowed down");
        Finding::of(Verdict::Inconclusive, reason)
    }
}
