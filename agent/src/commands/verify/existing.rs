//! Finds the container, process or cgroup that `agent verify` judges, and what is known about it.

use std::path::Path;

use agent_engines::intent::expect;
use agent_host::hierarchy::Hierarchies;
use agent_host::membership::Membership;
use agent_inventory::units::LiveUnit;
use agent_verify::Error;
use agent_verify::caller::CallerLimits;
use agent_verify::existing::{Existing, unread_record};
use agent_verify::report::Report;
use agent_verify::run::Watch;
use anyhow::{Context as _, anyhow};

use super::arguments::{Args, Target};
use super::{ProgressLine, trace};
use crate::commands::confirmed::{self, ConfirmedContainer, Confirmer};
use crate::commands::unit;

/// The subject of the judgement, and what is known about it.
struct Found {
    name: String,
    membership: Membership,
    known: Option<ConfirmedContainer>,
}

/// `agent verify --container|--pid|--cgroup`.
pub(super) fn run(args: &Args, target: &Target<'_>) -> anyhow::Result<Report> {
    let expected = match &args.expect[..] {
        [] => None,
        limits => Some(expect(limits).map_err(Error::Expect)?),
    };
    super::super::runtime()?.block_on(async {
        let hierarchies = Hierarchies::discover(Path::new("/"))?;
        let found = find(args, target, &hierarchies).await?;
        let known = found.known.as_ref();
        let intent = match (expected, known) {
            (Some(expected), _) => Some(expected),
            (None, Some(known)) => known.intent(args.engine.socket()).await?,
            (None, None) => None,
        };
        let unread = known.filter(|_| intent.is_none());
        let unread = unread.and_then(|known| known.unread(&hierarchies));
        let not_judged = unit::not_judged(&found.membership).await;
        let caller = known.map_or_else(CallerLimits::default, |known| {
            CallerLimits::of_container(&known.container, known.bounds.as_deref())
        });
        let existing = Existing {
            name: found.name,
            membership: found.membership,
            container: known.map(|known| &known.container),
            caller,
            intent,
        };
        let mut judged = judge(args, existing, hierarchies).await;
        if let Some(record) = unread {
            let unknown = unread_record(&record);
            judged = judged.map_err(|error| error.context(unknown.clone()));
            judged.iter_mut().for_each(|report| report.doubt(&unknown));
        }
        match judged {
            Ok(report) => Ok(Report {
                not_judged,
                ..report
            }),
            Err(error) if !not_judged.is_empty() => {
                let asked = not_judged.join(", ");
                Err(error.context(format!("asked of systemd and not judged: {asked}")))
            }
            failed => failed,
        }
    })
}

async fn judge(
    args: &Args,
    existing: Existing<'_>,
    hierarchies: Hierarchies,
) -> anyhow::Result<Report> {
    let claimed = existing.claim(hierarchies)?;
    let Some(time) = args.time else {
        return Ok(claimed.judge()?);
    };
    let (trace, note) = trace(args, claimed.claims()).await;
    let mut line = ProgressLine::new();
    let mut show = |watch: &Watch| line.show(watch);
    let judged = claimed.observe(trace.as_ref(), time, &mut show).await;
    line.clear();
    let mut report = judged?;
    report.notes.extend(note);
    Ok(report)
}

async fn find(
    args: &Args,
    target: &Target<'_>,
    hierarchies: &Hierarchies,
) -> anyhow::Result<Found> {
    match target {
        Target::Container(name) => {
            let flag = || format!("--container {name}");
            let unit = unit::find(name).with_context(flag)?;
            let found = confirmed::find(name, &args.socket, &args.engine).await;
            let known = match (found, unit) {
                (Ok(Some(known)), Some(unit)) => {
                    return Err(unit::ambiguous(&known, &unit.container)).with_context(flag);
                }
                // An ordinary user who may not see containers may see units.
                (Ok(None), Some(unit)) => return Ok(of_unit(unit)),
                (Err(_), Some(unit)) if !rustix::process::geteuid().is_root() => {
                    return Ok(of_unit(unit));
                }
                (Ok(None), None) => {
                    return Err(anyhow!(unit::nobody(name))).with_context(flag);
                }
                (Ok(Some(known)), None) => known,
                (Err(error), _) => return Err(error).with_context(flag),
            };
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
            let fresh = Confirmer::with_server(&args.engine, &args.socket).await?;
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
                return Err(none);
            }
            Ok(Found {
                name: text,
                known: Confirmer::with_server(&args.engine, &args.socket)
                    .await?
                    .at(&membership)
                    .await,
                membership,
            })
        }
    }
}

fn of_unit(unit: LiveUnit) -> Found {
    Found {
        name: unit.container.name.clone(),
        membership: unit.membership,
        known: Some(ConfirmedContainer::without_record(unit.container)),
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
