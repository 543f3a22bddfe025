//! `agent doctor`: what this kernel and these privileges allow, and why.

use std::path::Path;
use std::process::ExitCode;

use agent_host::hierarchy::Hierarchies;
use agent_host::system::System;
use agent_model::hierarchy::Version;
use agent_model::text;
use agent_tracer::kernel;
use agent_tracer::kernel::TraceOptions;
use agent_tracer::kernel::choice::Mechanisms;
use agent_tracer::kernel::probes::{ProbeState, ProbeStatus, see_events};
use serde::Serialize;

use crate::commands::screen::Output;

/// Show what this kernel and these privileges allow, and why
///
/// Loads and attaches every probe for a moment. Shows for each the mechanism that works, or the error
/// and which events are not seen. The exit status is 0 when `agent serve` can run here, else 1.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// human: a table; json: one object
    #[arg(long, value_name = "human|json", default_value = "human")]
    output: Output,

    #[command(flatten)]
    mechanisms: super::mechanisms::MechanismArgs,
}

/// The findings.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether `agent serve` can run.
    ready: bool,
    /// Why not.
    reason: Option<String>,
    system: System,
    cgroups: Cgroups,
    /// How the agent reaches tracefs, or why it cannot.
    tracefs: String,
    probes: Vec<ProbeStatus>,
}

#[derive(Debug, Serialize)]
struct Cgroups {
    /// v1, v2 or hybrid; null where no cgroup file system is found.
    layout: Option<String>,
    hierarchies: Vec<Hierarchy>,
}

#[derive(Debug, Serialize)]
struct Hierarchy {
    version: &'static str,
    /// The controllers, or the name of a hierarchy without any.
    controllers: Vec<String>,
    mount: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let report = examine(args);
    let text = match args.output {
        Output::Human => human(&report),
        Output::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    super::print(&text)?;
    Ok(if report.ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn examine(args: &Args) -> Report {
    let root = Path::new("/");
    let (probes, failure) = try_probes(args.mechanisms.clone().into());
    let hierarchies = Hierarchies::discover(root);
    let attached = see_events(&probes);
    let reason = failure
        .or_else(|| {
            hierarchies
                .as_ref()
                .err()
                .map(|error| text::error_line(error))
        })
        .or_else(|| (!attached).then(|| "no probe for events can be attached".to_owned()));
    Report {
        ready: reason.is_none(),
        reason,
        system: System::read(root),
        cgroups: cgroups(hierarchies.ok().as_ref()),
        tracefs: match kernel::program::open_tracefs() {
            Ok(_) => "reachable (by a mount of its own, attached nowhere)".to_owned(),
            Err(error) => text::error_line(&error),
        },
        probes,
    }
}

/// The status of each probe, or the reason why no probe can be loaded.
fn try_probes(mechanisms: Mechanisms) -> (Vec<ProbeStatus>, Option<String>) {
    let options = TraceOptions {
        mechanisms,
        pin: None,
        loads: false,
    };
    let attached = kernel::load(&options).and_then(|loaded| {
        let (kernel, _) = loaded.kernel.attach()?;
        Ok(kernel.statuses().to_vec())
    });
    match attached {
        Ok(statuses) => (statuses, None),
        Err(error) => (Vec::new(), Some(text::error_line(&error))),
    }
}

fn human(report: &Report) -> String {
    let system = &report.system;
    let unknown = || "unknown".to_owned();
    let lockdown = system
        .lockdown
        .map_or_else(unknown, |level| level.name().to_owned());
    let btf = if system.btf {
        kernel::BTF_PATH
    } else {
        "missing: nothing can be traced"
    };
    let layout = report
        .cgroups
        .layout
        .clone()
        .unwrap_or_else(|| "none found".to_owned());
    let mut rows = vec![
        ("kernel", system.kernel.clone().unwrap_or_else(unknown)),
        ("BTF", btf.to_owned()),
        ("lockdown", lockdown),
        ("privileges", privileges(system.capabilities.as_deref())),
    ];
    if let Some(lacking) = lacking(system.capabilities.as_deref()) {
        rows.push(("", lacking));
    }
    rows.push(("cgroups", layout));
    for hierarchy in &report.cgroups.hierarchies {
        let controllers = hierarchy.controllers.join(",");
        rows.push((
            "",
            format!("{} {controllers} at {}", hierarchy.version, hierarchy.mount),
        ));
    }
    rows.push(("tracefs", report.tracefs.clone()));
    let mut text = String::new();
    for (name, value) in rows {
        line(&mut text, &format!("{name:<12}{value}"));
    }
    if !report.probes.is_empty() {
        line(
            &mut text,
            &format!("\n{:<18}{:<11}{}", "PROBE", "MECHANISM", "STATE"),
        );
    }
    for status in &report.probes {
        let (state, reason) = match &status.state {
            ProbeState::Attached => ("attached".to_owned(), None),
            ProbeState::Off => ("off".to_owned(), None),
            ProbeState::Failed { errno, reason } => {
                let errno = errno.clone().unwrap_or_else(|| "failed".to_owned());
                (errno, Some(reason))
            }
        };
        line(
            &mut text,
            &format!("{:<18}{:<11}{state}", status.probe, status.mechanism.name()),
        );
        for other in &status.passed_over {
            let mechanism = other.mechanism.name();
            line(
                &mut text,
                &format!("  not by {mechanism}: {}", other.reason),
            );
        }
        if let Some(reason) = reason {
            line(&mut text, &format!("  why: {reason}"));
        }
        if !status.attached() {
            line(&mut text, &format!("  not seen: {}", status.loss));
        }
    }
    let verdict = match &report.reason {
        None => "\nready: agent serve can run here".to_owned(),
        Some(reason) => format!("\nnot ready: {reason}"),
    };
    line(&mut text, &verdict);
    text
}

/// Columns of a line.
const COLUMNS: usize = 80;

/// The indent of a continued line.
const GOES_ON: &str = "    ";

/// Adds a line, and continues it in the next one where it is too long.
fn line(text: &mut String, line: &str) {
    let (newline, line) = match line.strip_prefix('\n') {
        Some(rest) => ("\n", rest),
        None => ("", line),
    };
    text.push_str(newline);
    let mut rest = text::escape(line).into_owned();
    while let Some(end) = last_space(&rest) {
        text.push_str(&rest[..end]);
        text.push('\n');
        rest.replace_range(..=end, GOES_ON);
    }
    text.push_str(&text::fit(&rest, COLUMNS));
    text.push('\n');
}

/// The last space at which a line that is too long can be broken.
fn last_space(line: &str) -> Option<usize> {
    if text::width(line) <= COLUMNS {
        return None;
    }
    let spaces = line.match_indices(' ').map(|(at, _)| at);
    let ends = spaces.filter(|&at| !line[..at].trim().is_empty());
    ends.take_while(|&at| text::width(&line[..at]) <= COLUMNS)
        .last()
}

/// Which of the capabilities that tracing needs are held.
fn privileges(held: Option<&[String]>) -> String {
    let Some(held) = held else {
        return "unknown".to_owned();
    };
    let missing: Vec<&str> = super::NEEDED
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !held.iter().any(|it| it == name))
        .collect();
    if missing.is_empty() {
        "all that tracing needs".to_owned()
    } else {
        format!("missing {}: run as root", missing.join(" "))
    }
}

/// What the agent does not see without CAP_SYS_PTRACE, which tracing does not need.
fn lacking(held: Option<&[String]>) -> Option<String> {
    const PTRACE: &str = "CAP_SYS_PTRACE";
    let lacks = held.is_some_and(|held| !held.iter().any(|it| it == PTRACE));
    lacks.then(|| {
        format!(
            "no {PTRACE}: where /proc hides processes (hidepid=, ProtectProc=), container_network_* of them is missing, and \
             agent inspect sees less of those with more capabilities"
        )
    })
}

fn cgroups(found: Option<&Hierarchies>) -> Cgroups {
    let hierarchies = found
        .into_iter()
        .flat_map(Hierarchies::all)
        .map(|mounted| Hierarchy {
            version: match mounted.version {
                Version::V1 => "v1",
                Version::V2 => "v2",
            },
            controllers: match &mounted.name {
                Some(name) => vec![format!("name={name}")],
                None => mounted.controllers.clone(),
            },
            mount: mounted.mount.display().to_string(),
        });
    Cgroups {
        layout: found.map(|found| format!("{:?}", found.layout()).to_lowercase()),
        hierarchies: hierarchies.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_in_the_next() {
        let words = "why: ".to_owned() + &"reason ".repeat(30) + &"x".repeat(100);
        let mut text = String::new();
        line(&mut text, &words);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|it| text::width(it) <= COLUMNS), "{text}");
        assert!(lines[1..].iter().all(|it| it.starts_with(GOES_ON)));
        let words = |text: &str| text.split_whitespace().filter(|&it| it == "reason").count();
        assert_eq!(words(&text), 30);
        assert!(text.ends_with("xxx…\n"), "{text}");
    }

    #[test]
    fn a_line_that_fits_stays() {
        let mut text = String::new();
        line(&mut text, "\nkernel      6.18");
        assert_eq!(text, "\nkernel      6.18\n");
    }
}
