//! Judges limits: compares intended values with files, effective limits and observations. Pure.
//!
//! A limit that is not set as intended fails, whatever was observed. A limit that the workload did not press against is
//! inconclusive, and the reason says what would press.

mod bound;
mod cpu;
mod memory;
mod pids;
mod rate;
mod sets;

use std::path::PathBuf;

use agent_host::cgroup_files::is_in_pages;
use agent_host::system::page_size;
use agent_limits::limit::Expected;
use agent_limits::limit::chain::{Chain, Drift, Missing};
use agent_model::hierarchy::Version;
use agent_model::limit::{Held, Kind, Link};

use super::claim::LimitClaim;
use super::members::Moved;
use super::peaks::Peaks;
use super::report::{
    Check, Effective, InFile, Intended, Observed, Stimulus, Tolerance, Verdict, Victim,
};
use super::sample::Sample;
use super::unread::{AllUnread, Unread};

/// What is known of one claim.
pub(crate) struct ClaimFacts<'a> {
    pub claim: &'a LimitClaim,
    /// What the agent wrote, if it did.
    pub written: Option<InFile>,
    /// Before the run, or now.
    pub chain: &'a Result<Chain, Unread>,
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
    /// It could be read at first, and later not.
    Unread(Unread),
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
    pub peaks: Peaks,
    pub unread: AllUnread,
    /// `None` where nothing was traced, or the trace has a gap.
    pub victims: Option<Vec<Victim>>,
    pub dirtied: Dirtied,
    pub host: Host,
    /// CPUs that it could run on.
    pub cpus: usize,
}

/// What the init process and those that it waited for wrote, into the page cache too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dirtied {
    Bytes(u64),
    /// How much it was is not to be had of the init process.
    Unknown {
        pid: i32,
    },
    /// What ran already is not asked what it wrote.
    NotAsked,
}

/// What the host has.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    pub cpus: usize,
    /// Bytes; `None` where that cannot be read.
    pub swap: Option<u64>,
    pub page: u64,
}

/// What an observation comes to.
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

    /// What was counted from the first to the last look; `None` where one of them does not say.
    fn counted(&self, of: impl Fn(&Sample) -> Option<u64>) -> Option<u64> {
        Some(of(&self.after)?.saturating_sub(of(&self.before)?))
    }

    /// The same, while the workload ran.
    fn counted_meanwhile(&self, of: impl Fn(&Sample) -> Option<u64>) -> Option<u64> {
        Some(of(&self.last)?.saturating_sub(of(&self.first)?))
    }

    /// A peak that the kernel keeps of a cgroup's life, where it is of the run.
    fn grown(&self, of: impl Fn(&Sample) -> Option<u64>) -> Option<u64> {
        let (before, after) = (of(&self.before), of(&self.after)?);
        before.is_none_or(|before| before < after).then_some(after)
    }

    /// There is no verdict, for want of what is in one of these files.
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

/// A check of a limit that cannot be read.
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
    // What went above a limit that the kernel was to keep is a fail, whoever intended it.
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

/// Of what nobody intended nothing passes, and how it is set is no fail.
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

/// Why what was observed is no pass.
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

/// That the file has another word for what was intended: v1 has shares and v2 weights.
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

/// Why a limit cannot be there, and what is to be done.
fn with_advice(missing: &Missing) -> String {
    match missing {
        Missing::NotEnabled { advice, .. } => format!("{missing}; {advice}"),
        _ => missing.to_string(),
    }
}

/// What is wrong with how the limit is set, if anything is.
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

/// What happened, judged by the limit that holds.
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

/// The number of a limit that is one.
fn number(held: &Held) -> u64 {
    match held {
        Held::Amount(agent_model::limit::Limit::Value(number)) => *number,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests;
