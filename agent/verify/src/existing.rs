//! The judgement of a container, the cgroups of a process, or a cgroup that exists already.

use std::path::Path;
use std::time::Duration;

use agent_engines::intent::Intent;
use agent_host::hierarchy::Hierarchies;
use agent_host::membership::Membership;
use agent_limits::limit::chain::Chain;
use agent_model::container::{Container, ContainerKind};
use agent_model::limit::Kind;
use agent_registry::path::Runtime;

use super::caller::CallerLimits;
use super::claim::LimitClaim;
use super::error::Error;
use super::judge::{ClaimFacts, Run, Undone, judge};
use super::report::{Check, Report, ReportSubject, Scope, Verdict};
use super::run::{self, Progress};
use super::sample::{Gauge, Sample};
use super::trace::Trace;

/// The subject of a judgement, and what is known about it.
pub struct Existing<'a> {
    /// The name for people.
    pub name: String,
    /// The cgroups of the subject.
    pub membership: Membership,
    /// The container that the subject is, or is in.
    pub container: Option<&'a Container>,
    /// The limits of its caller.
    pub caller: CallerLimits,
    /// The intended limits, where a source reports them.
    pub intent: Option<Intent>,
}

/// A subject whose claims are known.
pub struct Claimed {
    name: String,
    caller: CallerLimits,
    gauge: Gauge,
    claims: Vec<LimitClaim>,
}

impl Existing<'_> {
    /// Makes a claim of each intended limit; where none is known, of each limit that is set in the cgroup.
    ///
    /// # Errors
    /// The cgroup cannot be read, or there is nothing to judge.
    pub fn claim(self, hierarchies: Hierarchies) -> Result<Claimed, Error> {
        let mut gauge = Gauge::new(hierarchies, self.membership);
        let claims = match &self.intent {
            Some(intent) => intended(&gauge, intent),
            None => set(&mut gauge, self.container)?,
        };
        let claims = self.caller.beside(claims);
        if claims.is_empty() && self.caller.unknown().is_empty() {
            return Err(Error::Unlimited { name: self.name });
        }
        Ok(Claimed {
            name: self.name,
            caller: self.caller,
            gauge,
            claims,
        })
    }
}

impl Claimed {
    /// Returns what is to be judged.
    #[must_use]
    pub fn claims(&self) -> &[LimitClaim] {
        &self.claims
    }

    fn subject(&self) -> ReportSubject {
        let first = self.claims.first().map_or(Kind::Memory, |claim| claim.kind);
        ReportSubject {
            cgroup: self.gauge.path(first).unwrap_or_default().to_owned(),
            name: self.name.clone(),
        }
    }

    /// Judges what the files hold at this moment.
    ///
    /// # Errors
    /// The cgroup cannot be read.
    pub fn judge(mut self) -> Result<Report, Error> {
        let (claims, subject) = (&self.claims, self.subject());
        let now = self.gauge.sample(claims)?;
        let mut checks = checks(claims, &now, &vec![None; claims.len()], None);
        checks.extend(self.caller.unknown());
        let scope = Scope::Configuration;
        Ok(Report::new(scope, subject, None, checks, Vec::new()))
    }

    /// Observes the cgroup for `time`, and judges what happened.
    ///
    /// # Errors
    /// The cgroup cannot be read, or another process removes it.
    pub async fn observe(
        self,
        trace: Option<&Trace>,
        time: Duration,
        progress: Progress<'_>,
    ) -> Result<Report, Error> {
        let (subject, unknown) = (self.subject(), self.caller.unknown());
        let (watch, run) = run::watch(self.gauge, self.claims, trace, time, progress).await?;
        let mut checks = checks(&watch.claims, &watch.before, &watch.undone, Some(&run));
        checks.extend(unknown);
        Ok(Report::new(Scope::Run, subject, None, checks, Vec::new()))
    }
}

impl Report {
    /// Makes each pass inconclusive, and each check without an intended value that did not fail: a record of the
    /// container exists and cannot be read, so the intended limits are not known.
    pub fn doubt(&mut self, unknown: &str) {
        for check in &mut self.checks {
            let unasked =
                check.verdict != Verdict::Fail && check.intended.is_none() && !check.caller;
            if check.verdict == Verdict::Pass || unasked {
                check.verdict = Verdict::Inconclusive;
                check.reason = format!("{unknown}; --expect says it");
            }
        }
        self.verdict = Self::overall(&self.checks);
    }
}

/// Says that the record of a container cannot be read.
#[must_use]
pub fn unread_record(record: &Path) -> String {
    let record = record.display();
    format!("{record} is there and cannot be read, so what was intended is not known")
}

fn intended(gauge: &Gauge, intent: &Intent) -> Vec<LimitClaim> {
    let claims = intent.limits.iter().map(|(kind, value)| LimitClaim {
        by_default: intent.follows(value),
        ..LimitClaim::new(*kind, value.clone(), intent.source.name())
    });
    // Where the kernel does not count swap, engines leave the limit of twice the memory out.
    let left_out = |claim: &LimitClaim| claim.by_default && gauge.lacks(claim.kind);
    claims.filter(|claim| !left_out(claim)).collect()
}

/// The limits that are set in the cgroup, and those whose file cannot be read.
fn set(gauge: &mut Gauge, container: Option<&Container>) -> Result<Vec<LimitClaim>, Error> {
    let all = gauge.limits().all().into_iter();
    let hint = source_hint(container);
    let all: Vec<LimitClaim> = all
        .map(|(kind, device)| LimitClaim::own(kind, device, &hint))
        .collect();
    let now = gauge.sample(&all)?;
    let limited = all.into_iter().zip(now.chains).filter(|(claim, chain)| {
        let may_be_set = chain.as_ref().map_or(true, Chain::has_own);
        may_be_set && !matches!(claim.kind, Kind::CpuWeight | Kind::CpusetMems)
    });
    Ok(limited.map(|(claim, _)| claim).collect())
}

/// Says which source could report the intended limits.
fn source_hint(container: Option<&Container>) -> String {
    const EXPECT: &str = "--expect LIMIT=VALUE says it";
    let container = container.filter(|it| it.kind == ContainerKind::Container);
    match container.map(|it| &*it.runtime) {
        Some(docker) if docker == Runtime::Docker.name() => format!(
            "{EXPECT}, and so does docker, whose socket --docker-socket names, or a running agent serve that hears it"
        ),
        Some(engine) if engine != Runtime::Agent.name() => {
            format!("{EXPECT}; no record of {engine} that can be read has it")
        }
        _ => EXPECT.to_owned(),
    }
}

fn checks(
    claims: &[LimitClaim],
    now: &Sample,
    undone: &[Option<Undone>],
    run: Option<&Run>,
) -> Vec<Check> {
    let all = claims.iter().zip(&now.chains).zip(undone);
    let checks = all.map(|((claim, chain), undone)| {
        judge(ClaimFacts {
            claim,
            written: None,
            chain,
            undone: undone.as_ref(),
            run,
        })
    });
    checks.collect()
}
