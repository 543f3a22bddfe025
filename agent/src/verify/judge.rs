//! Verdicts: what was intended against what files hold, what holds in the end, and what was observed. Pure.
//!
//! A limit that is not set as intended fails whatever was observed. One that is, and that the workload did not press
//! against, is not proven: inconclusive, with what would press.

mod bound;
mod cpu;
mod memory;
mod pids;
mod rate;
mod sets;

use std::path::PathBuf;

use super::claim::Claim;
use super::members::Moved;
use super::report::{
    Check, Effective, InFile, Intended, Observed, Stimulus, Tolerance, Verdict, Victim,
};
use super::sample::Sample;
use crate::host::system::page_size;
use crate::limit::chain::{Chain, Drift, Link};
use crate::limit::{Held, Kind};

/// What is known of one claim.
pub struct Facts<'a> {
    pub claim: &'a Claim,
    /// What the agent wrote, if it did.
    pub written: Option<InFile>,
    /// Before the run, or now.
    pub chain: &'a Chain,
    /// What somebody did to it during the run.
    pub undone: Option<&'a Undone>,
    pub run: Option<&'a Run>,
}

/// What somebody did to a limit that is none of the workload's doing.
#[derive(Clone, Debug)]
pub enum Undone {
    /// The own limit, or the one that holds in the end, was another one, as here.
    Changed(Chain),
    Moved(Moved),
    /// This file was written to, and held the same at each look.
    Written(PathBuf),
}

/// What happened between two looks.
#[derive(Clone, Debug)]
pub struct Run {
    pub before: Sample,
    pub after: Sample,
    /// The part of it in which the workload ran, for what is measured by the clock.
    pub first: Sample,
    pub last: Sample,
    /// The highest of all samples: bytes, bytes, tasks.
    pub memory_peak: u64,
    pub swap_peak: u64,
    pub pids_peak: u64,
    /// The CPUs that processes of the cgroup were allowed to use, all together.
    pub allowed: Vec<String>,
    /// `None` where nothing was traced, or the trace has a gap.
    pub victims: Option<Vec<Victim>>,
    /// What the first process and those that it waited for wrote, into the page cache too.
    pub dirtied: Option<u64>,
    pub host: Host,
    /// CPUs that it could run on.
    pub cpus: usize,
}

/// What the host has.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    pub cpus: usize,
    pub swap: u64,
    pub page: u64,
}

/// What an observation comes to.
pub struct Finding {
    pub stimulus: Option<Stimulus>,
    pub observed: Option<Observed>,
    pub tolerance: Option<Tolerance>,
    pub verdict: Verdict,
    pub reason: String,
}

impl Host {
    pub fn read(root: &std::path::Path) -> Self {
        Self {
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            swap: crate::host::hits::swap_total(root).unwrap_or(0),
            page: page_size(),
        }
    }
}

impl Run {
    pub fn seconds(&self) -> f64 {
        let time = self.last.at.saturating_duration_since(self.first.at);
        time.as_secs_f64()
    }
}

impl Finding {
    fn of(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            stimulus: None,
            observed: None,
            tolerance: None,
            verdict,
            reason: reason.into(),
        }
    }
}

pub use bound::unknown;

/// Judges one claim.
pub fn judge(facts: Facts<'_>) -> Check {
    if let Some(bound) = &facts.claim.bound {
        return bound::judge(&facts, bound);
    }
    let chain = facts.chain;
    let intended = facts.claim.held(chain.version);
    let effective = chain.effective();
    let configured = configuration(&facts, intended.as_ref());
    let mut finding = match (facts.run, &effective) {
        (Some(run), Some(effective)) => observation(chain.kind, effective, chain, run),
        _ => configured_well(&facts),
    };
    if let Some(failed) = configured {
        finding.verdict = failed.verdict;
        finding.reason = failed.reason;
    } else if let (Verdict::Pass, Some(Undone::Written(file))) = (finding.verdict, facts.undone) {
        let file = file.display();
        finding.verdict = Verdict::Inconclusive;
        finding.reason = format!(
            "somebody wrote to {file} during the run, and what it held meanwhile was not seen"
        );
    }
    Check {
        limit: chain.kind.flag(),
        device: chain.device.map(|device| device.to_string()),
        caller: false,
        intended: facts.claim.intended().map(|value| Intended {
            value,
            source: facts.claim.source.clone(),
            cgroup: None,
        }),
        written: facts.written.clone(),
        read_back: chain.own.as_ref().ok().map(|own| read_back(&facts, own)),
        effective: effective.map(|link| Effective {
            value: chain.quantity(&link.held),
            cgroup: link.cgroup,
        }),
        stimulus: finding.stimulus,
        observed: finding.observed,
        tolerance: finding.tolerance,
        verdict: finding.verdict,
        reason: finding.reason,
    }
}

fn read_back(facts: &Facts<'_>, own: &Link) -> InFile {
    let written = facts.written.as_ref();
    let rounded = written.is_some_and(|it| it.text != own.text && !own.held.is_none());
    let is_bytes =
        matches!(own.held, Held::Amount(_)) && own.file.to_string_lossy().contains("memory");
    InFile {
        file: own.file.display().to_string(),
        text: own.text.clone(),
        note: (rounded && is_bytes).then(|| "the kernel keeps whole pages".to_owned()),
    }
}

/// What is wrong with how the limit is set, if anything is.
fn configuration(facts: &Facts<'_>, intended: Option<&Held>) -> Option<Finding> {
    let fail = |reason: String| Some(Finding::of(Verdict::Fail, reason));
    let chain = facts.chain;
    match facts.undone {
        Some(Undone::Changed(changed)) => return fail(change(chain, changed)),
        Some(Undone::Moved(moved)) => return fail(moved.to_string()),
        Some(Undone::Written(_)) | None => {}
    }
    if facts.claim.intended.is_some() && intended.is_none() {
        let flag = chain.kind.flag();
        return fail(format!("this version of cgroups cannot limit {flag}"));
    }
    let wanted = intended.map(|held| chain.quantity(held).text);
    match chain.drift(intended)? {
        Drift::Missing(missing) => fail(missing.to_string()),
        Drift::Written => {
            let own = chain.own.as_ref().ok()?;
            fail(format!(
                "{} holds {}, and {} was intended",
                own.file.display(),
                chain.quantity(&own.held).text,
                wanted.unwrap_or_default(),
            ))
        }
        Drift::Shadowed(above) => {
            let own = chain.own.as_ref().ok()?;
            fail(format!(
                "limited by {}: {} < {}",
                above.cgroup,
                chain.quantity(&above.held).text,
                chain.quantity(&own.held).text,
            ))
        }
    }
}

/// What was written during the run: to the own limit, or above it.
fn change(before: &Chain, changed: &Chain) -> String {
    let link = match &changed.own {
        Ok(own) if before.has_same_own(changed) => {
            changed.effective().unwrap_or_else(|| own.clone())
        }
        Ok(own) => own.clone(),
        Err(missing) => return format!("it was taken away during the run: {missing}"),
    };
    let file = link.file.display();
    let held = changed.quantity(&link.held).text;
    format!("somebody wrote to {file} during the run: it held {held}")
}

/// Nothing but files was looked at, and they are as they should be.
fn configured_well(facts: &Facts<'_>) -> Finding {
    let chain = facts.chain;
    match chain.effective() {
        None => Finding::of(Verdict::Pass, "no limit is intended, and none holds"),
        Some(link)
            if facts.claim.intended.is_none()
                && chain.own.as_ref().is_ok_and(|own| own.held.is_none()) =>
        {
            let held = chain.quantity(&link.held).text;
            Finding::of(
                Verdict::Pass,
                format!(
                    "it has no limit of its own; {} limits it to {held}",
                    link.cgroup
                ),
            )
        }
        Some(_) if facts.claim.intended.is_none() => Finding::of(
            Verdict::Pass,
            "nothing above is tighter; nobody says what was intended",
        ),
        Some(_) => Finding::of(
            Verdict::Pass,
            "set as intended, and nothing above is tighter",
        ),
    }
}

/// What happened, judged by the limit that holds.
fn observation(kind: Kind, effective: &Link, chain: &Chain, run: &Run) -> Finding {
    match kind {
        Kind::Memory => memory::memory(&effective.held, run),
        Kind::MemorySwap => memory::swap(&effective.held, chain.version, run),
        Kind::MemoryHigh => memory::high(&effective.held, run),
        Kind::MemoryReservation => Finding::of(
            Verdict::Inconclusive,
            "memory is kept for it only where the host is short of memory, which this run does not bring about",
        ),
        Kind::CpuQuota => cpu::quota(&effective.held, run),
        Kind::CpuWeight => Finding::of(
            Verdict::Inconclusive,
            "a weight shows among siblings that all want the CPU: agent verify --weights",
        ),
        Kind::CpusetCpus => sets::cpus(&effective.held, run),
        Kind::CpusetMems => Finding::of(
            Verdict::Pass,
            "set as intended; memory is placed by it when it is touched",
        ),
        Kind::Pids => pids::pids(&effective.held, run),
        Kind::ReadBps | Kind::WriteBps | Kind::ReadIops | Kind::WriteIops => {
            rate::rate(chain, effective, run)
        }
    }
}

/// The number of a limit that is one.
fn number(held: &Held) -> u64 {
    match held {
        Held::Amount(crate::host::cgroup::Limit::Value(number)) => *number,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests;
