//! Judges a container, the cgroups of a process, or a cgroup that exists already.

use std::path::Path;

use agent_engines::intent::{Intent, expect};
use agent_host::hierarchy::Hierarchies;
use agent_host::membership::Membership;
use agent_model::container::{Container, ContainerKind};
use agent_model::limit::Kind;
use agent_registry::path::Runtime;
use agent_verify::caller::Caller;
use agent_verify::claim::Claim;
use agent_verify::judge::{Facts, Run, Undone, judge};
use agent_verify::report::{Check, Report, Scope, Subject, Verdict};
use agent_verify::run;
use agent_verify::run::Watch;
use agent_verify::sample::{Gauge, Sample};
use anyhow::{Context as _, anyhow};

use super::arguments::{Args, Target};
use super::launched::{Progress, trace};
use super::{Failure, report};
use crate::commands::known::{self, Fresh, Known};
use crate::commands::unit;

/// The subject of the judgement, and what is known about it.
struct Found {
    name: String,
    membership: Membership,
    known: Option<Known>,
}

/// `agent verify --container|--pid|--cgroup`.
pub fn run(args: &Args, target: &Target<'_>) -> Result<Report, Failure> {
    let expected = match &args.expect[..] {
        [] => None,
        words => Some(expect(words).map_err(|error| Failure::Misuse(error.into()))?),
    };
    super::super::runtime()?.block_on(async {
        let hierarchies = Hierarchies::discover(Path::new("/"))?;
        let found = find(args, target, &hierarchies).await?;
        let caller = found.known.as_ref().map_or_else(Caller::default, caller);
        let intent = match (expected, &found.known) {
            (Some(expected), _) => Some(expected),
            (None, Some(known)) => known.intent(args.engine.socket()).await?,
            (None, None) => None,
        };
        let unread = match (&intent, &found.known) {
            (None, Some(known)) => known.unread(&hierarchies),
            _ => None,
        };
        let not_judged = unit::not_judged(&found.membership).await;
        let judged = judge_found(args, found, intent, &caller, hierarchies).await;
        let judged = match unread {
            Some(record) => doubted(judged, &record),
            None => judged,
        };
        mentioned(judged, not_judged)
    })
}

/// Adds the limits that a unit asks for and that no command judges to the report or the error.
fn mentioned(judged: Result<Report, Failure>, not_judged: Vec<String>) -> Result<Report, Failure> {
    match judged {
        Ok(report) => Ok(Report {
            not_judged,
            ..report
        }),
        Err(Failure::NoVerdict(error)) if !not_judged.is_empty() => {
            let asked = not_judged.join(", ");
            Err(error
                .context(format!("asked of systemd and not judged: {asked}"))
                .into())
        }
        failed => failed,
    }
}

/// Makes a pass inconclusive where a record exists and cannot be read: the intended limits are not known.
fn doubted(judged: Result<Report, Failure>, record: &Path) -> Result<Report, Failure> {
    let record = record.display();
    let unknown =
        format!("{record} is there and cannot be read, so what was intended is not known");
    let mut report = match judged {
        Err(Failure::NoVerdict(error)) => return Err(error.context(unknown).into()),
        other => other?,
    };
    for check in &mut report.checks {
        let unasked = check.verdict != Verdict::Fail && check.intended.is_none() && !check.caller;
        if check.verdict == Verdict::Pass || unasked {
            check.verdict = Verdict::Inconclusive;
            check.reason = format!("{unknown}; --expect says it");
        }
    }
    report.verdict = Report::overall(&report.checks);
    Ok(report)
}

/// The limits that a container of `agent run` was started under, by its record.
fn caller(known: &Known) -> Caller {
    let Container {
        confirmed, runtime, ..
    } = &known.container;
    match &known.bounds {
        Some(bounds) => Caller::binding(bounds),
        None if *confirmed == Some(true) && *runtime == Runtime::Agent.name() => Caller::unsaid(),
        None => Caller::default(),
    }
}

async fn find(
    args: &Args,
    target: &Target<'_>,
    hierarchies: &Hierarchies,
) -> Result<Found, Failure> {
    match target {
        Target::Container(name) => {
            let flag = || format!("--container {name}");
            let found = known::find(name, &args.socket, &args.engine).await;
            let known = found
                .with_context(flag)?
                .ok_or_else(|| anyhow!("--container {name}: {}", known::NOBODY))?;
            Ok(Found {
                name: known.container.name.clone(),
                membership: known.membership().with_context(flag)?,
                known: Some(known),
            })
        }
        Target::Process(pid) => {
            let membership = Membership::of(Path::new("/"), *pid);
            let membership = membership.with_context(|| {
                format!("--pid {pid}: there is no such process; want one of the host's numbers")
            })?;
            let name = format!("process {pid}");
            let fresh = Fresh::with_server(&args.engine, &args.socket).await?;
            // --expect refers to the cgroup of the process; an engine's intention refers to that of its container.
            if args.expect.is_empty()
                && let Some((known, membership)) = fresh.around(&membership).await
            {
                return Ok(Found {
                    name: format!("{name} of {}", known.container.name),
                    membership,
                    known: Some(known),
                });
            }
            Ok(Found {
                name,
                known: fresh.at(&membership).await,
                membership,
            })
        }
        Target::Cgroup(path) => {
            let shown = path.display();
            let text = below_mount(hierarchies, path).with_context(|| {
                format!("--cgroup {shown}: want a path that begins with /, as in /proc/PID/cgroup")
            })?;
            let membership = Membership::at(hierarchies, &text);
            if membership.is_empty() {
                let none = anyhow!("--cgroup {shown}: no hierarchy has such a cgroup");
                return Err(none.into());
            }
            Ok(Found {
                name: text,
                known: Fresh::with_server(&args.engine, &args.socket)
                    .await?
                    .at(&membership)
                    .await,
                membership,
            })
        }
    }
}

/// The path of a cgroup in its hierarchy, from that path or from its directory.
fn below_mount(hierarchies: &Hierarchies, path: &Path) -> Option<String> {
    use std::os::unix::ffi::OsStrExt as _;
    let below = hierarchies.path_of(path);
    let text = below.unwrap_or_else(|| agent_host::path::to_text(path.as_os_str().as_bytes()));
    let text = if text.len() > 1 {
        text.trim_end_matches('/')
    } else {
        &text
    };
    text.starts_with('/').then(|| text.to_owned())
}

async fn judge_found(
    args: &Args,
    found: Found,
    intent: Option<Intent>,
    caller: &Caller,
    hierarchies: Hierarchies,
) -> Result<Report, Failure> {
    let mut gauge = Gauge::new(hierarchies, found.membership);
    let claims = caller.beside(claims(&mut gauge, intent, found.known.as_ref())?);
    let unknown = caller.unknown();
    if claims.is_empty() && unknown.is_empty() {
        let none = anyhow!(
            "{} has no limit, and nobody says that it should: --expect memory=150M names one",
            found.name
        );
        return Err(none.into());
    }
    let first = claims.first().map_or(Kind::Memory, |claim| claim.kind);
    let subject = Subject {
        cgroup: gauge.path(first).unwrap_or_default().to_owned(),
        name: found.name,
    };
    let Some(time) = args.time else {
        let now = gauge.sample(&claims)?;
        let mut checks = checks(&claims, &now, &vec![None; claims.len()], None);
        checks.extend(unknown);
        return Ok(report(
            Scope::Configuration,
            subject,
            None,
            checks,
            Vec::new(),
        ));
    };
    let (trace, notes) = trace(args, &claims).await;
    let mut progress = Progress::new();
    let mut told = |watch: &Watch| progress.show(watch);
    let watched = run::watch(gauge, claims, trace.as_ref(), time, &mut told).await;
    progress.clear();
    let (watch, run) = watched?;
    let mut checks = checks(&watch.claims, &watch.before, &watch.undone, Some(&run));
    checks.extend(unknown);
    Ok(report(Scope::Run, subject, None, checks, notes))
}

/// The intended limits; where they are not known, each limit that is set in the cgroup.
fn claims(
    gauge: &mut Gauge,
    intent: Option<Intent>,
    known: Option<&Known>,
) -> Result<Vec<Claim>, Failure> {
    if let Some(intent) = intent {
        let source = intent.source;
        let claims = intent.limits.iter().map(|(kind, value)| Claim {
            by_default: intent.follows(value),
            ..Claim::new(*kind, value.clone(), source.name())
        });
        // Where the kernel does not count swap, engines leave the limit of twice the memory out.
        let left_out = |claim: &Claim| claim.by_default && gauge.lacks(claim.kind);
        return Ok(claims.filter(|claim| !left_out(claim)).collect());
    }
    let all = gauge.limits().all().into_iter();
    let ask = would_tell(known);
    let all: Vec<Claim> = all
        .map(|(kind, device)| Claim::own(kind, device, &ask))
        .collect();
    let now = gauge.sample(&all)?;
    let limited = all.into_iter().zip(now.chains).filter(|(claim, chain)| {
        let is_set = match chain {
            Ok(chain) => chain.has_own(),
            // It may be.
            Err(_) => true,
        };
        is_set && !matches!(claim.kind, Kind::CpuWeight | Kind::CpusetMems)
    });
    Ok(limited.map(|(claim, _)| claim).collect())
}

/// A hint: which source could report the intended limits.
fn would_tell(known: Option<&Known>) -> String {
    const EXPECT: &str = "--expect LIMIT=VALUE says it";
    let container = known.map(|known| &known.container);
    let container = container.filter(|it| it.kind == ContainerKind::Container);
    match container.map(|it| &*it.runtime) {
        Some(docker) if docker == Runtime::Docker.name() => format!(
            "{EXPECT}, and so does docker, whose socket --docker-socket names, or a running agent serve that hears it"
        ),
        Some(engine) if engine != Runtime::Agent.name() => {
            format!("{EXPECT}; {engine} is not asked")
        }
        _ => EXPECT.to_owned(),
    }
}

fn checks(
    claims: &[Claim],
    now: &Sample,
    undone: &[Option<Undone>],
    run: Option<&Run>,
) -> Vec<Check> {
    let all = claims.iter().zip(&now.chains).zip(undone);
    let checks = all.map(|((claim, chain), undone)| {
        judge(Facts {
            claim,
            written: None,
            chain,
            undone: undone.as_ref(),
            run,
        })
    });
    checks.collect()
}
