//! `agent verify`: proves that limits hold, or says why not.

mod arguments;
mod launched;
mod standing;
mod suite;

use std::process::ExitCode;

pub use arguments::Args;
use arguments::{Form, Output};

use super::screen;
use agent_verify::lines;
use agent_verify::lines::Screen;
use agent_verify::report::Check;
use agent_verify::report::Report;
use agent_verify::report::Scope;
use agent_verify::report::Subject;
use agent_verify::report::Workload;

/// The exit status where nothing could be judged.
const NO_VERDICT: u8 = 2;

/// The exit status of misuse (`EX_USAGE` of sysexits.h).
const MISUSE: u8 = 64;

/// Why there is no report.
#[derive(Debug)]
pub enum Failure {
    /// The arguments contradict each other.
    Misuse(anyhow::Error),
    /// The attempt failed, so there is no verdict.
    NoVerdict(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::NoVerdict(error.into())
    }
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reported = match args.form() {
        Form::Launch => launched::limits(args),
        Form::Weights(weights) => launched::weights(args, weights),
        Form::Suite(jobs) => suite::run(args, jobs),
        Form::Standing(target) => standing::run(args, &target),
    };
    let (error, status) = match reported {
        Ok(report) => {
            super::print(&text(&report, args)?)?;
            return Ok(ExitCode::from(report.verdict.status()));
        }
        Err(Failure::Misuse(error)) => (error, MISUSE),
        Err(Failure::NoVerdict(error)) => (error, NO_VERDICT),
    };
    super::complain(error.as_ref());
    Ok(ExitCode::from(status))
}

fn text(report: &Report, args: &Args) -> anyhow::Result<String> {
    let columns = screen::columns().min(arguments::COLUMNS);
    let screen = Screen::new(columns, screen::colour());
    Ok(match (args.output, args.form()) {
        (Output::Json, _) => serde_json::to_string_pretty(report)? + "\n",
        (Output::Human, Form::Suite(_)) => lines::table(report, screen),
        (Output::Human, _) => lines::report(report, screen),
    })
}

fn report(
    scope: Scope,
    subject: Subject,
    workload: Option<Workload>,
    checks: Vec<Check>,
    notes: Vec<String>,
) -> Report {
    Report {
        verdict: Report::overall(&checks),
        scope,
        subject,
        workload,
        checks,
        not_judged: Vec::new(),
        notes,
    }
}
