//! Judges limits: compares intended values with files, effective limits and observations. This module does no I/O,
//! except for [`Host::read`].
//!
//! A limit that is not set as intended fails, whatever was observed. A limit that the workload did not press against is
//! inconclusive, and the reason names a workload that would.

mod bound;
mod cpu;
mod memory;
mod pids;
mod rate;
mod sets;

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_host::cgroup_files::is_in_pages;
use agent_host::system::page_size;
use agent_limits::limit::Expected;
use agent_limits::limit::chain::{Chain, Drift, Missing};
use agent_model::hierarchy::Version;
use agent_model::limit::{Device, Held, Kind, Link};

use super::claim::LimitClaim;
use super::members::Moved;
use super::peaks::Peaks;
use super::report::{
    Check, Effective, InFile, Intended, Observed, Stimulus, Tolerance, Verdict, Victim,
};
use super::sample::Sample;
use super::unread::{AllUnread, Unread};

/// The facts that decide one claim.
pub(crate) struct ClaimFacts<'a> {
    pub claim: &'a LimitClaim,
    /// What the agent wrote; `None` where it did not write the limit.
    pub written: Option<InFile>,
    /// The limit at the begin of the run; without a run, now.
    pub chain: &'a Result<Chain, Unread>,
    /// What another process did to the limit during the run.
    pub undone: Option<&'a Undone>,
    pub run: Option<&'a Run>,
}

/// A change of a limit, or of the processes under it, that the workload did not make.
#[derive(Clone, Debug)]
pub enum Undone {
    /// A later look found another own or effective limit: this one.
    Changed(Chain),
    Moved(Moved),
    /// The limit could be read at first, and not at a later look.
    Unread(Unread),
    /// Another process wrote to this file, and each look found the same limit.
    Written(PathBuf),
}

/// What the agent observed between the first look at a cgroup and the last.
#[derive(Clone, Debug)]
pub struct Run {
    pub before: Sample,
    pub after: Sample,
    /// The samples at the begin and the end of the workload, for values that are measured per second.
    pub first: Sample,
    pub last: Sample,
    pub peaks: Peaks,
    pub unread: AllUnread,
    /// The processes that the OOM killer killed; `None` where nothing was traced, or the trace has a gap.
    pub victims: Option<Vec<Victim>>,
    pub dirtied: Dirtied,
    /// How many bytes everybody on the host wrote to each limited block device in the run.
    pub reached: BTreeMap<Device, u64>,
    pub host: Host,
    /// The number of CPUs that the workload could run on.
    pub cpus: usize,
}

/// The bytes that the init process, and the processes that it waited for, caused to be written to block devices. They
/// include what is still in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dirtied {
    Bytes(u64),
    /// The counter of the init process cannot be read.
    Unknown {
        pid: i32,
    },
    /// The subject ran before the observation, so its counters were not read.
    NotAsked,
}

/// The resources of the host.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    pub cpus: usize,
    /// The size of the swap space in bytes; `None` where it cannot be read.
    pub swap: Option<u64>,
    pub page: u64,
}

/// The verdict on an observation, with its evidence.
pub(crate) struct Finding {
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
            swap: agent_host::hits::swap_total(root),
            page: page_size(),
        }
    }
}

impl Run {
    pub fn seconds(&self) -> f64 {
        let time = self.last.at.saturating_duration_since(self.first.at);
        time.as_secs_f64()
    }

    /// Returns the growth of a counter from the first look to the last; `None` where one of the two does not have it.
    fn counted(&self, of: impl Fn(&Sample) -> Option<u64>) -> Option<u64> {
        Some(of(&self.after)?.saturating_sub(of(&self.before)?))
    }

    /// Returns the growth of a counter while the workload ran; `None` where a sample does not have it.
    fn counted_meanwhile(&self, of: impl Fn(&Sample) -> Option<u64>) -> Option<u64> {
        Some(of(&self.last)?.saturating_sub(of(&self.first)?))
    }

    /// Returns a peak that the kernel keeps since the cgroup was made, if the peak grew in the run. `None` also where a
    /// sample does not have it: then it may be from before the run.
    fn grown(&self, of: impl Fn(&Sample) -> Option<u64>) -> Option<u64> {
        let (before, after) = (of(&self.before)?, of(&self.after)?);
        (before < after).then_some(after)
    }

    /// Makes an inconclusive finding, because the value of one of these files is not known.
    fn unseen(&self, files: &[&str], what: &str) -> Finding {
        Finding::of(Verdict::Inconclusive, self.unread.why(files, what))
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

pub(crate) use bound::unknown;

/// Makes the check of a limit that cannot be read.
fn unread(claim: &LimitClaim, unread: &Unread) -> Check {
    let reason = format!("{unread}; so which limit holds is not known");
    Check {
        caller: claim.bound.is_some(),
        device: claim.device.map(|device| device.to_string()),
        intended: intended(claim),
        ..unknown(claim.kind.flag(), reason)
    }
}

fn intended(claim: &LimitClaim) -> Option<Intended> {
    claim.intended().map(|value| Intended {
        value,
        source: claim.source.clone(),
        cgroup: None,
    })
}

/// Judges one claim.
pub(crate) fn judge(facts: ClaimFacts<'_>) -> Check {
    let chain = match facts.chain {
        Ok(chain) => chain,
        Err(error) => return unread(facts.claim, error),
    };
    if let Some(bound) = &facts.claim.bound {
        return bound::judge(&facts, chain, bound);
    }
    let wanted = facts.claim.held(chain.version);
    let effective = chain.effective();
    let mut finding = match (facts.run, &effective) {
        (Some(run), Some(effective)) => observation(chain.kind, effective, chain, run),
        _ => configured_well(&facts, chain),
    };
    // Usage above the effective limit is a fail, even where no source intended the limit.
    let mut went_above = finding.verdict == Verdict::Fail;
    if let Some(failed) = configuration(&facts, chain, wanted.as_ref()) {
        went_above = false;
        finding.verdict = failed.verdict;
        finding.reason = failed.reason;
    } else if finding.verdict == Verdict::Pass
        && let Some(doubt) = doubt(facts.undone)
    {
        finding.verdict = Verdict::Inconclusive;
        finding.reason = doubt;
    }
    if facts.claim.intended.is_none() && !went_above {
        finding = of_nobody(finding, &facts);
    }
    Check {
        limit: chain.kind.flag(),
        device: chain.device.map(|device| device.to_string()),
        caller: false,
        by_default: facts.claim.by_default,
        intended: intended(facts.claim),
        written: facts.written.clone(),
        read_back: chain
            .own
            .as_ref()
            .ok()
            .map(|own| read_back(&facts, chain, own)),
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

/// Makes the finding on a limit without an intended value inconclusive: the limit may hold, but it may not be the
/// intended one.
fn of_nobody(finding: Finding, facts: &ClaimFacts<'_>) -> Finding {
    let reason = format!(
        "{}; nobody says what was intended: {}",
        finding.reason, facts.claim.source
    );
    Finding {
        verdict: Verdict::Inconclusive,
        reason,
        ..finding
    }
}

/// Returns why an observation that would pass does not, if it does not.
fn doubt(undone: Option<&Undone>) -> Option<String> {
    match undone? {
        Undone::Written(file) => {
            let file = file.display();
            Some(format!(
                "somebody wrote to {file} during the run, and what it held meanwhile was not seen"
            ))
        }
        Undone::Unread(unread) => Some(format!(
            "{unread}; so whether the limit was the same all the time is not known"
        )),
        Undone::Changed(_) | Undone::Moved(_) => None,
    }
}

fn read_back(facts: &ClaimFacts<'_>, chain: &Chain, own: &Link) -> InFile {
    let written = facts.written.as_ref();
    let rounded = written.is_some_and(|it| it.text != own.text && !own.held.is_none());
    let pages =
        (rounded && is_in_pages(chain.kind)).then(|| "the kernel keeps whole pages".to_owned());
    InFile {
        file: own.file.display().to_string(),
        text: own.text.clone(),
        note: pages.or_else(|| converted(facts, chain, own)),
    }
}

/// Returns a note where the file has another unit than the intended value: v1 has shares, and v2 weights.
fn converted(facts: &ClaimFacts<'_>, chain: &Chain, own: &Link) -> Option<String> {
    let intended = facts.claim.intended()?;
    let held = chain.quantity(&own.held);
    let is_weight = chain.kind == Kind::CpuWeight;
    (is_weight && intended.unit != held.unit).then(|| {
        let version = match chain.version {
            Version::V1 => "v1",
            Version::V2 => "v2",
        };
        format!(
            "{}, converted from {}: the word of {version}",
            held.text, intended.text
        )
    })
}

/// Formats why the cgroup cannot have a limit, and the advice where there is one.
fn with_advice(missing: &Missing) -> String {
    match missing {
        Missing::NotEnabled { advice, .. } => format!("{missing}; {advice}"),
        _ => missing.to_string(),
    }
}

/// Returns a failing finding where the limit is not set as intended.
fn configuration(
    facts: &ClaimFacts<'_>,
    chain: &Chain,
    intended: Option<&Expected>,
) -> Option<Finding> {
    let fail = |reason: String| Some(Finding::of(Verdict::Fail, reason));
    match facts.undone {
        Some(Undone::Changed(changed)) => return fail(change(chain, changed)),
        Some(Undone::Moved(moved)) => return fail(moved.to_string()),
        Some(Undone::Written(_) | Undone::Unread(_)) | None => {}
    }
    if facts.claim.intended.is_some() && intended.is_none() {
        let flag = chain.kind.flag();
        return fail(format!("this version of cgroups cannot limit {flag}"));
    }
    let wanted = intended.map(|wanted| chain.quantity(&wanted.held).text);
    match chain.drift(intended)? {
        Drift::Missing(missing) => fail(with_advice(&missing)),
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

/// Formats the change of a limit during the run: that of the own one, or of the effective one above it.
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

/// Makes the finding of a limit that is set as intended, where no run was observed.
fn configured_well(facts: &ClaimFacts<'_>, chain: &Chain) -> Finding {
    let reason = match (chain.effective(), facts.claim.intended.is_some()) {
        (None, true) => "no limit is intended, and none holds".to_owned(),
        (None, false) => "none holds".to_owned(),
        (Some(_), true) => "set as intended, and nothing above is tighter".to_owned(),
        (Some(link), false) => {
            let held = chain.quantity(&link.held).text;
            match chain.own.as_ref().is_ok_and(|own| own.held.is_none()) {
                true => format!(
                    "it has no limit of its own; {} limits it to {held}",
                    link.cgroup
                ),
                false => format!("{held} holds, and nothing above is tighter"),
            }
        }
    };
    Finding::of(Verdict::Pass, reason)
}

/// Judges the observations of a run by the effective limit.
fn observation(kind: Kind, effective: &Link, chain: &Chain, run: &Run) -> Finding {
    match kind {
        Kind::Memory => memory::memory(effective, run),
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
        Kind::CpusetCpus => sets::cpus(&effective.held, chain, run),
        Kind::CpusetMems => Finding::of(
            Verdict::Inconclusive,
            "on which nodes memory was placed is not looked at; without a run it is judged by what is set: agent verify \
             --container NAME",
        ),
        Kind::Pids => pids::pids(&effective.held, run),
        Kind::ReadBps | Kind::WriteBps | Kind::ReadIops | Kind::WriteIops => {
            rate::rate(chain, effective, run)
        }
    }
}

/// Returns the number of a limit, or `u64::MAX` where there is none.
fn number(held: &Held) -> u64 {
    match held {
        Held::Amount(agent_model::limit::Limit::Value(number)) => *number,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests;
