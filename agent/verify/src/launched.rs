//! A command that is launched under limits, and the judgement of them.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use agent_host::pinned::Pinned;
use agent_host::system::page_size;
use agent_model::limit::{Kind, Value};
use agent_runtime::cgroup::Wanted;
use agent_runtime::order::Order;
use agent_runtime::spec;
use agent_runtime::spec::flags::{Flags, Limits};
use agent_runtime::spec::value::Set;
use agent_runtime::supervise::observer::Written;
use agent_runtime::supervise::verifier::{Leaving, hold};
use rustix::thread::{CpuSet, sched_getaffinity};

use super::caller::CallerLimits;
use super::claim::LimitClaim;
use super::error::Error;
use super::judge::{ClaimFacts, judge};
use super::report::{Check, InFile, Report, ReportSubject, Scope, Workload};
use super::run::{self, Progress, Ran, Watch};
use super::supervised::Supervised;
use super::trace::Trace;
use super::weights;

/// A command, and the limits that it is to run under.
pub struct LimitedCommand {
    flags: Flags,
    order: Order,
    claims: Vec<LimitClaim>,
}

/// Finds the init process of a container by the container's name.
pub type FindContainer = fn(&str) -> Result<Pinned, String>;

/// Supervisors that wait to launch their commands.
pub struct HeldCommands {
    supervisors: Vec<UnixStream>,
    caller: CallerLimits,
    _leaving: Leaving,
}

/// Makes a supervisor for each command. The calling process has one thread.
///
/// # Errors
/// No process can be made, or no cgroup can hold the commands.
pub fn hold_all(commands: &[LimitedCommand]) -> Result<HeldCommands, Error> {
    let caller = CallerLimits::here()?;
    let (supervisors, leaving) = hold(commands.iter().map(|it| it.order.clone()).collect())?;
    Ok(HeldCommands {
        supervisors,
        caller: leaving.bounds().map_or(caller, CallerLimits::binding),
        _leaving: leaving,
    })
}

impl LimitedCommand {
    /// Compiles flags of `agent run` to an order, and makes a claim of each limit.
    ///
    /// # Errors
    /// The flags contradict each other, or name something that is not there.
    pub fn of(flags: Flags, find: FindContainer) -> Result<Self, Error> {
        let mut found = spec::look(&flags, find)?;
        // A quota that no workload can use up gets a verdict; it is no error.
        found.cpus = None;
        let order = spec::compile(&flags, &found)?;
        let linux = order.spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().clone());
        let wanted = Wanted::of(&resources.unwrap_or_default(), page_size())?;
        // A limit on swap that follows from --memory was not requested. The check of memory covers it.
        let asked = wanted
            .limits
            .into_iter()
            .filter(|(kind, _)| !(order.swap_implied && *kind == Kind::MemorySwap));
        let claims = asked.map(|(kind, value)| {
            let flag = flag(kind, &value, &flags.limits);
            LimitClaim::new(kind, value, format!("--{flag}"))
        });
        Ok(Self {
            claims: claims.collect(),
            flags,
            order,
        })
    }

    /// Compiles one command for each weight. All of them run on the CPUs of the flags, else on one CPU.
    ///
    /// # Errors
    /// The errors of [`Self::of`]; or the flags set another limit, which the verdict would not cover.
    pub fn with_weights(
        mut flags: Flags,
        weights: &[u64],
        find: FindContainer,
    ) -> Result<Vec<Self>, Error> {
        if flags.limits.cpuset_cpus.is_none() {
            flags.limits.cpuset_cpus = Some(Set(last_cpu()?));
        }
        let commands = weights.iter().map(|weight| {
            let mut flags = flags.clone();
            flags.limits.cpu_weight = Some(*weight);
            let mut command = Self::of(flags, find)?;
            command.need_only_weights()?;
            command.claims.retain(|it| it.kind == Kind::CpuWeight);
            for claim in &mut command.claims {
                "--weights".clone_into(&mut claim.source);
            }
            Ok(command)
        });
        commands.collect()
    }

    /// Returns the claims, one for each limit.
    #[must_use]
    pub fn claims(&self) -> &[LimitClaim] {
        &self.claims
    }

    /// Checks that weights and CPU sets are the only limits.
    fn need_only_weights(&self) -> Result<(), Error> {
        let about_cpus =
            |kind| matches!(kind, Kind::CpuWeight | Kind::CpusetCpus | Kind::CpusetMems);
        match self.claims.iter().find(|claim| !about_cpus(claim.kind)) {
            None => Ok(()),
            Some(other) => Err(Error::BesideWeights {
                flag: other.source.clone(),
            }),
        }
    }

    fn cgroup(&self) -> String {
        let linux = self.order.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().clone());
        path.unwrap_or_default().display().to_string()
    }

    /// Runs the command, and judges all claims.
    ///
    /// # Errors
    /// The command cannot be launched, or its cgroup cannot be read.
    pub async fn judge(
        &self,
        held: HeldCommands,
        trace: Option<&Trace>,
        time: Option<Duration>,
        progress: Progress<'_>,
    ) -> Result<Report, Error> {
        let HeldCommands {
            supervisors,
            caller,
            _leaving,
        } = held;
        let (mut checks, mut notes) = (Vec::new(), Vec::new());
        let mut workload = None;
        for stream in supervisors {
            let (supervised, claims) = (Supervised::new(stream)?, self.claims.clone());
            let ran = run::launch(supervised, claims, &caller, trace, time, &mut *progress).await?;
            checks.extend(judged(&ran));
            workload = Some(Workload {
                command: self.flags.command.clone(),
                exit: ran.code,
                seconds: ran.run.seconds(),
            });
            notes.extend(ran.notes);
        }
        checks.extend(caller.unknown());
        let subject = ReportSubject {
            name: self.order.name.clone(),
            cgroup: self.cgroup(),
        };
        Ok(Report::new(Scope::Run, subject, workload, checks, notes))
    }
}

/// Runs commands beside each other for `time`, and judges how they share the CPU.
///
/// # Errors
/// A command cannot be launched, or its cgroup cannot be read.
pub async fn judge_weights(
    commands: &[LimitedCommand],
    held: HeldCommands,
    time: Duration,
) -> Result<Report, Error> {
    let HeldCommands {
        supervisors,
        caller,
        _leaving,
    } = held;
    let supervised: Result<Vec<_>, _> = supervisors.into_iter().map(Supervised::new).collect();
    let claims = commands.iter().flat_map(|it| it.claims.clone()).collect();
    let (mut checks, notes) = weights::split(supervised?, claims, &caller, time).await?;
    checks.extend(caller.unknown());
    let names: Vec<&str> = commands.iter().map(|it| &*it.order.name).collect();
    let first = commands.first();
    let subject = ReportSubject {
        name: names.join(","),
        cgroup: first.map(LimitedCommand::cgroup).unwrap_or_default(),
    };
    let workload = first.map(|it| Workload {
        command: it.flags.command.clone(),
        exit: None,
        seconds: time.as_secs_f64(),
    });
    Ok(Report::new(Scope::Run, subject, workload, checks, notes))
}

/// Returns the number of the last CPU that this process may use.
pub(crate) fn last_cpu() -> Result<String, Error> {
    let set = sched_getaffinity(None).map_err(std::io::Error::from)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| set.is_set(*cpu));
    Ok(last.unwrap_or(0).to_string())
}

fn judged(ran: &Ran) -> Vec<Check> {
    let Watch {
        claims,
        before,
        undone,
        ..
    } = &ran.watch;
    let all = claims.iter().zip(&before.chains).zip(undone);
    let checks = all.map(|((claim, chain), undone)| {
        judge(ClaimFacts {
            claim,
            written: written(claim, &ran.written),
            chain,
            undone: undone.as_ref(),
            run: Some(&ran.run),
        })
    });
    checks.collect()
}

/// Returns the text that the supervisor wrote for a claim. A limit may have two files. Then the result has the path of
/// the last one written and the texts of both, in the order of the chain.
fn written(claim: &LimitClaim, all: &[Written]) -> Option<InFile> {
    let wanted = (claim.kind, claim.device);
    let mut of_claim = all.iter().filter(|it| (it.kind, it.device) == wanted);
    let texts: Vec<&str> = of_claim.clone().map(|it| &*it.text).rev().collect();
    let last = of_claim.next_back()?;
    Some(InFile {
        file: last.file.clone(),
        text: texts.join(" "),
        note: None,
    })
}

/// The flag by which a limit was given, where there is more than one.
fn flag(kind: Kind, value: &Value, limits: &Limits) -> &'static str {
    match (kind, value) {
        (Kind::CpuQuota, _) if limits.cpus.is_some() => "cpus",
        (Kind::CpuWeight, Value::Shares(_)) => "cpu-shares",
        _ => kind.flag(),
    }
}
