//! Launches workloads under limits, and judges the limits.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use agent_host::system::page_size;
use agent_model::limit::{Kind, Value};
use agent_runtime::cgroup::Wanted;
use agent_runtime::order::Order;
use agent_runtime::spec;
use agent_runtime::spec::flags::{Flags, Limits};
use agent_runtime::spec::value::Set;
use agent_runtime::supervise::held::{Written, hold};
use agent_stream::filter::EventFilter;
use agent_stream::kind;
use agent_tracer::kernel::choice::{Mechanisms, SyscallProbes};
use agent_verify::caller::Caller;
use agent_verify::claim::Claim;
use agent_verify::judge::{Facts, judge};
use agent_verify::report::{Check, InFile, Report, Scope, Subject, Workload};
use agent_verify::run::{Ran, Watch};
use agent_verify::supervised::Supervised;
use agent_verify::trace::Trace;
use agent_verify::{run, weights};
use anyhow::anyhow;
use rustix::thread::{CpuSet, sched_getaffinity};

use super::super::screen;
use super::arguments::{Args, Weights};
use super::{Failure, report};
use crate::commands::first_process::first_process;
use crate::commands::records::Wanted as Events;

/// A command and the limits that it is to run under.
pub struct Job {
    pub flags: Flags,
    pub order: Order,
    pub claims: Vec<Claim>,
}

/// `agent verify LIMITS… COMMAND`.
pub fn limits(args: &Args) -> Result<Report, Failure> {
    let job = Job::of(flags(args)?)?;
    if job.claims.is_empty() {
        return Err(Failure::Misuse(anyhow!(
            "no limit to judge: give at least one, as --memory 150M, before the command"
        )));
    }
    super::super::protect()?;
    launch(args, &job)
}

/// Launches a job, and judges its limits.
pub fn launch(args: &Args, job: &Job) -> Result<Report, Failure> {
    let caller = Caller::here()?;
    let (held, leaving) = hold(vec![job.order.clone()])?;
    let caller = leaving.bounds().map_or(caller, Caller::binding);
    super::super::runtime()?.block_on(job.judge(args, held, &caller))
}

/// `agent verify --weights`.
pub fn weights(args: &Args, wanted: &Weights) -> Result<Report, Failure> {
    let mut flags = flags(args)?;
    if flags.limits.cpuset_cpus.is_none() {
        flags.limits.cpuset_cpus = Some(Set(last_cpu()?));
    }
    super::super::protect()?;
    let command = flags.command.clone();
    split(flags, command, args.time.unwrap_or(weights::USUAL), wanted)
}

/// Runs a command in siblings with these weights.
pub fn split(
    flags: Flags,
    command: Vec<String>,
    time: Duration,
    wanted: &Weights,
) -> Result<Report, Failure> {
    let jobs = wanted.0.iter().map(|weight| {
        let mut flags = flags.clone();
        flags.limits.cpu_weight = Some(*weight);
        let mut job = Job::of(flags)?;
        job.need_only_weights()?;
        job.claims.retain(|claim| claim.kind == Kind::CpuWeight);
        for claim in &mut job.claims {
            "--weights".clone_into(&mut claim.source);
        }
        Ok(job)
    });
    let jobs: Vec<Job> = jobs.collect::<Result<_, Failure>>()?;
    let caller = Caller::here()?;
    let (held, leaving) = hold(jobs.iter().map(|job| job.order.clone()).collect())?;
    let caller = leaving.bounds().map_or(caller, Caller::binding);
    super::super::runtime()?.block_on(async {
        let supervised: Vec<_> = held
            .into_iter()
            .map(Supervised::new)
            .collect::<Result<_, _>>()?;
        let claims = jobs.iter().flat_map(|job| job.claims.clone()).collect();
        let (mut checks, notes) = weights::split(supervised, claims, &caller, time).await?;
        checks.extend(caller.unknown());
        let names: Vec<&str> = jobs.iter().map(|job| &*job.order.name).collect();
        let subject = Subject {
            name: names.join(","),
            cgroup: cgroup(&jobs[0].order),
        };
        let workload = Workload {
            command,
            exit: None,
            seconds: time.as_secs_f64(),
        };
        Ok(report(Scope::Run, subject, Some(workload), checks, notes))
    })
}

/// The flags of the container that the workload runs in.
pub fn flags(args: &Args) -> Result<Flags, Failure> {
    let mut flags = Flags::none().map_err(anyhow::Error::from)?;
    flags.command.clone_from(&args.command);
    flags.limits.clone_from(&args.limits);
    flags.root.rootfs.clone_from(&args.rootfs);
    flags.root.bin.clone_from(&args.bin);
    flags.root.image.clone_from(&args.image);
    flags.root.volume.clone_from(&args.volume);
    if args.bin.is_empty() && args.image.is_none() && args.rootfs.is_none() {
        flags.root.rootfs = Some("host".into());
    }
    if flags.root.rootfs.as_deref() == Some("host".as_ref()) {
        // The rest is read-only, and workloads write to their working directory.
        flags.process.workdir = Some("/tmp".into());
    }
    Ok(flags)
}

/// The last CPU that this process may use.
pub fn last_cpu() -> Result<String, Failure> {
    let set = sched_getaffinity(None).map_err(std::io::Error::from)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| set.is_set(*cpu));
    Ok(last.unwrap_or(0).to_string())
}

fn cgroup(order: &Order) -> String {
    let linux = order.spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().clone());
    path.unwrap_or_default().display().to_string()
}

impl Job {
    pub fn of(flags: Flags) -> Result<Self, Failure> {
        let misuse = |error: spec::Error| Failure::Misuse(error.into());
        let mut found = spec::look(&flags, first_process).map_err(misuse)?;
        // A quota that no workload can use up gets a verdict; it is no error.
        found.cpus = None;
        let order = spec::compile(&flags, &found).map_err(misuse)?;
        let linux = order.spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().clone());
        let wanted = Wanted::of(&resources.unwrap_or_default(), page_size());
        let wanted = wanted.map_err(|error| Failure::Misuse(error.into()))?;
        // A limit of swap that follows from --memory was not asked for. The check of memory covers it.
        let asked = wanted
            .limits
            .into_iter()
            .filter(|(kind, _)| !(order.swap_implied && *kind == Kind::MemorySwap));
        let claims = asked.map(|(kind, value)| {
            let flag = flag(kind, &value, &flags.limits);
            Claim::new(kind, value, format!("--{flag}"))
        });
        Ok(Self {
            claims: claims.collect(),
            flags,
            order,
        })
    }

    /// Checks that weights and CPU sets are the only limits.
    ///
    /// # Errors
    /// Another limit is given, which would hold and not be judged.
    fn need_only_weights(&self) -> Result<(), Failure> {
        let about_cpus =
            |kind| matches!(kind, Kind::CpuWeight | Kind::CpusetCpus | Kind::CpusetMems);
        match self.claims.iter().find(|claim| !about_cpus(claim.kind)) {
            None => Ok(()),
            Some(other) => Err(Failure::Misuse(anyhow!(
                "--weights judges weights alone; verify {} in a run of its own",
                other.source
            ))),
        }
    }

    /// Runs the workload, and judges all claims.
    async fn judge(
        &self,
        args: &Args,
        held: Vec<UnixStream>,
        caller: &Caller,
    ) -> Result<Report, Failure> {
        let (trace, mut notes) = trace(args, &self.claims).await;
        let mut checks = Vec::new();
        let mut workload = None;
        for stream in held {
            let supervised = Supervised::new(stream)?;
            let claims = self.claims.clone();
            let mut progress = Progress::new();
            let mut told = |watch: &Watch| progress.show(watch);
            let trace = trace.as_ref();
            let ran = run::launch(supervised, claims, caller, trace, args.time, &mut told).await;
            progress.clear();
            let ran = ran?;
            checks.extend(judged(&ran));
            workload = Some(Workload {
                command: self.flags.command.clone(),
                exit: ran.code,
                seconds: ran.run.seconds(),
            });
            notes.extend(ran.notes);
        }
        checks.extend(caller.unknown());
        let subject = Subject {
            name: self.order.name.clone(),
            cgroup: cgroup(&self.order),
        };
        Ok(report(Scope::Run, subject, workload, checks, notes))
    }
}

/// The traced OOM kills. None where memory is not judged, or where neither a server nor this process can trace.
pub async fn trace(args: &Args, claims: &[Claim]) -> (Option<Trace>, Vec<String>) {
    if !claims.iter().any(|claim| claim.kind == Kind::Memory) {
        return (None, Vec::new());
    }
    let wanted = Events {
        filter: EventFilter {
            kinds: [kind::EventKind::Oom].into(),
            ..EventFilter::default()
        },
        socket: &args.socket,
        mechanisms: Mechanisms {
            syscall_probes: SyscallProbes::Off,
            ..Mechanisms::default()
        },
        engine: &args.engine,
    };
    match wanted.open("verify").await {
        Ok(source) => (Some(Trace::collect(source)), Vec::new()),
        Err(error) => {
            let why = agent_model::text::error_line(error.as_ref());
            (
                None,
                vec![format!("OOM kills are counted and not traced: {why}")],
            )
        }
    }
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
        judge(Facts {
            claim,
            written: written(claim, &ran.written),
            chain,
            undone: undone.as_ref(),
            run: Some(&ran.run),
        })
    });
    checks.collect()
}

/// The text written for a claim. Of a limit in two files it names the last, with the text of both, as the chain does.
fn written(claim: &Claim, all: &[Written]) -> Option<InFile> {
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

/// A line with what is used of each limit, on a terminal only.
pub struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    pub fn new() -> Self {
        use std::io::IsTerminal as _;
        Self {
            terminal: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    pub fn show(&mut self, watch: &Watch) {
        if self.terminal {
            let line = watch.line();
            let line = agent_model::text::escape(&line);
            let line = agent_model::text::fit(&line, screen::columns().saturating_sub(1));
            eprint!("\r{line}\x1b[K");
            self.shown = true;
        }
    }

    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}
