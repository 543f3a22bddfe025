//! `agent verify`: proves that limits hold, or says why not.

mod arguments;
mod existing;

use std::process::ExitCode;

use agent_model::text;
use agent_runtime::spec::flags::Flags;
use agent_stream::filter::EventFilter;
use agent_stream::kind;
use agent_tracer::kernel::choice::{Mechanisms, SyscallProbes};
use agent_verify::claim::LimitClaim;
use agent_verify::launched::{self, LimitedCommand, hold_all};
use agent_verify::lines::{self, ReportScreen};
use agent_verify::report::Report;
use agent_verify::run::Watch;
use agent_verify::suite::{self, SuiteJob};
use agent_verify::trace::Trace;
use agent_verify::{Error, weights};
pub(super) use arguments::Args;
use arguments::Form;

use super::init_process::init_process;
use super::records::EventRequest;
use super::screen;
use super::screen::Output;

/// The exit status where nothing could be judged.
const NO_VERDICT: u8 = 2;

/// The exit status of misuse (`EX_USAGE` of sysexits.h).
const MISUSE: u8 = 64;

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reported = match args.form() {
        Form::Launch => limits(args),
        Form::Weights(weights) => split(args, &weights.0),
        Form::Suite(jobs) => run_suite(args, jobs),
        Form::Standing(target) => existing::run(args, &target),
    };
    let error = match reported {
        Ok(report) => {
            super::print(&text(&report, args)?)?;
            return Ok(ExitCode::from(report.verdict.status()));
        }
        Err(error) => error,
    };
    super::complain(error.as_ref());
    let is_misuse = error.downcast_ref().is_some_and(Error::is_misuse);
    Ok(ExitCode::from(if is_misuse { MISUSE } else { NO_VERDICT }))
}

fn text(report: &Report, args: &Args) -> anyhow::Result<String> {
    let columns = screen::columns().min(arguments::COLUMNS);
    let screen = ReportScreen::new(columns, screen::colour());
    Ok(match (args.output, args.form()) {
        (Output::Json, _) => serde_json::to_string_pretty(report)? + "\n",
        (Output::Human, Form::Suite(_)) => lines::table(report, screen),
        (Output::Human, _) => lines::report(report, screen),
    })
}

/// `agent verify LIMITS… COMMAND`.
fn limits(args: &Args) -> anyhow::Result<Report> {
    let command = LimitedCommand::of(flags(args)?, init_process)?;
    if command.claims().is_empty() {
        return Err(Error::NoLimit.into());
    }
    super::protect()?;
    launch(args, &command)
}

/// Launches a command, and judges its limits.
fn launch(args: &Args, command: &LimitedCommand) -> anyhow::Result<Report> {
    let held = hold_all(std::slice::from_ref(command))?;
    super::runtime()?.block_on(async {
        let (trace, note) = trace(args, command.claims()).await;
        let mut line = ProgressLine::new();
        let mut show = |watch: &Watch| line.show(watch);
        let judged = command.judge(held, trace.as_ref(), args.time, &mut show);
        let judged = judged.await;
        line.clear();
        let mut report = judged?;
        report.notes.splice(0..0, note);
        Ok(report)
    })
}

/// `agent verify --weights`.
fn split(args: &Args, weights: &[u64]) -> anyhow::Result<Report> {
    let commands = LimitedCommand::with_weights(flags(args)?, weights, init_process)?;
    super::protect()?;
    let held = hold_all(&commands)?;
    let time = args.time.unwrap_or(weights::USUAL);
    Ok(super::runtime()?.block_on(launched::judge_weights(&commands, held, time))?)
}

/// `agent verify --suite`.
fn run_suite(args: &Args, jobs: &[SuiteJob]) -> anyhow::Result<Report> {
    suite::check()?;
    super::protect()?;
    let reports = jobs.iter().map(|job| {
        let Some(prepared) = job.prepare(flags(args)?, init_process)? else {
            return Ok(None);
        };
        match &prepared.commands[..] {
            [command] => launch(args, command).map(Some),
            commands => {
                let held = hold_all(commands)?;
                let judged = launched::judge_weights(commands, held, suite::SHARING);
                Ok(Some(super::runtime()?.block_on(judged)?))
            }
        }
    });
    Ok(suite::report(reports.collect::<anyhow::Result<_>>()?))
}

/// The flags of the container that the workload runs in.
fn flags(args: &Args) -> anyhow::Result<Flags> {
    let mut flags = Flags::none()?;
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
        // Everything but /tmp is read-only, and workloads write to their working directory.
        flags.process.workdir = Some("/tmp".into());
    }
    Ok(flags)
}

/// Follows the OOM kills. Without a server, and where this process cannot trace, a note says why there are none.
async fn trace(args: &Args, claims: &[LimitClaim]) -> (Option<Trace>, Option<String>) {
    if !Trace::is_of_use(claims) {
        return (None, None);
    }
    let wanted = EventRequest {
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
        Ok(source) => (Some(Trace::collect(source)), None),
        Err(error) => {
            let why = text::error_line(error.as_ref());
            let note = format!("OOM kills are counted and not traced: {why}");
            (None, Some(note))
        }
    }
}

/// A line that shows the use of each limit. It is printed on a terminal only.
struct ProgressLine {
    terminal: bool,
    shown: bool,
}

impl ProgressLine {
    fn new() -> Self {
        Self {
            terminal: screen::obeys_sequences(&std::io::stderr()),
            shown: false,
        }
    }

    fn show(&mut self, watch: &Watch) {
        if self.terminal {
            let line = watch.line();
            let line = text::escape(&line);
            let line = text::fit(&line, screen::columns().saturating_sub(1));
            eprint!("\r{line}\x1b[K");
            self.shown = true;
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}
