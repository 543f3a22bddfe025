//! One file a subcommand: arguments and wiring only.

mod doctor;
mod elsewhere;
mod engine;
mod exec;
mod first_process;
mod inspect;
mod known;
mod logs;
mod mechanisms;
mod ns;
mod ps;
mod records;
mod rm;
mod rootfs;
mod run;
mod screen;
mod serve;
mod socket;
mod stop;
mod unit;
mod verify;
mod wait;
mod watch;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Subcommand;

use crate::{
    kernel::probes::{Mechanism, State},
    pipeline::Pipeline,
    runtime::{launch::stage, state::Store, supervise},
};

/// What the program can do.
#[derive(Subcommand)]
pub enum Command {
    Serve(serve::Args),
    Watch(watch::Args),
    Ps(ps::Args),
    Ns(ns::Args),
    Inspect(inspect::Args),
    Run(Box<run::Args>),
    Exec(exec::Args),
    Logs(logs::Args),
    Stop(stop::Args),
    Wait(wait::Args),
    Rm(rm::Args),
    Verify(Box<verify::Args>),
    Rootfs(rootfs::Args),
    Doctor(doctor::Args),
}

/// The one of these that is asked for most, alone.
#[derive(Subcommand)]
pub enum Launch {
    Run(Box<run::Args>),
}

impl From<Launch> for Command {
    fn from(Launch::Run(args): Launch) -> Self {
        Self::Run(args)
    }
}

/// Whether one of these commands is asked for.
pub fn is(names: &[&str]) -> bool {
    let word = std::env::args_os().nth(1);
    word.is_some_and(|word| names.iter().any(|name| word == *name))
}

/// To be called before the arguments are read: what launches runs itself anew from a file that is out of reach, and all
/// that was done before would be done twice.
pub fn begin() {
    if stage::is_wanted() {
        stage::run();
    }
    if is(&["run", "exec"]) {
        // Where it fails, the command says so.
        let _ = protect();
    }
}

/// Does it.
///
/// # Errors
/// Where it cannot be done.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    // Those that launch do it once they run from a file that is out of reach.
    let swept = match command {
        Command::Run(_) | Command::Exec(_) => Vec::new(),
        _ => supervise::sweep(&Store::of_user()),
    };
    if matches!(command, Command::Serve(_) | Command::Watch(_)) {
        come_first();
    }
    match command {
        Command::Serve(args) => runtime()?
            .block_on(serve::run(args))
            .map(|()| ExitCode::SUCCESS),
        Command::Watch(args) => runtime_of_one()?
            .block_on(watch::run(args))
            .map(|()| ExitCode::SUCCESS),
        Command::Ps(args) => runtime()?.block_on(ps::run(args)),
        Command::Ns(args) => runtime()?.block_on(ns::run(args)),
        Command::Inspect(args) => runtime()?.block_on(inspect::run(args)),
        Command::Rootfs(args) => rootfs::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        // What makes processes has one thread, so none of tokio's.
        Command::Run(args) => run::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Exec(args) => Ok(exec::run(args)),
        Command::Logs(args) => logs::run(&args, &swept),
        Command::Stop(args) => stop::run(&args, &swept),
        Command::Wait(args) => wait::run(&args, &swept),
        Command::Rm(args) => rm::run(&args, &swept),
    }
}

/// How much more than others a reader of events wants the CPU (nice(2)); auditd has about the same, `priority_boost = 4`.
const PRIORITY: i32 = -5;

/// Who reads events runs before those who make them: a storm on all CPUs would fill its queues before it has a turn. To be
/// called before the first thread, as each has its own.
fn come_first() {
    // Without CAP_SYS_NICE it waits like all others, and what is lost is counted.
    let _ = rustix::process::nice(PRIORITY);
}

/// Keeps this program's file from containers. An ordinary user's containers can do no more to it than the user.
fn protect() -> Result<(), supervise::Error> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.load(Ordering::Relaxed) && rustix::process::geteuid().is_root() {
        crate::runtime::launch::protect_executable()?;
        DONE.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// How `agent run` and `agent exec` end: as the container's command, or as docker where there is none.
fn exit_of_container(status: Result<u8, supervise::Error>) -> ExitCode {
    let code = status.unwrap_or_else(|error| {
        complain(&error);
        error.status()
    });
    ExitCode::from(code)
}

/// Does something to each container, also where it failed for another. Each failure is said.
fn each(
    containers: &[String],
    mut act: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in containers {
        if let Err(error) = act(name) {
            complain(error.as_ref());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// # Errors
/// The container was there, and this command has removed what its supervisor left that was killed.
fn need_not_swept(name: &str, swept: &[String]) -> Result<(), supervise::Error> {
    match swept.iter().any(|it| it == name) {
        true => Err(supervise::Error::Abandoned { name: name.into() }),
        false => Ok(()),
    }
}

/// Says in one line what was wrong. Where nobody reads that, the exit status says enough.
fn complain(error: &(dyn std::error::Error + 'static)) {
    use std::io::Write as _;
    let line = crate::text::error_line(error);
    let _ = writeln!(std::io::stderr(), "agent: {line}");
}

use crate::text::note;

/// The capabilities that tracing needs (capabilities(7)), and what for.
const NEEDED: [(&str, &str); 3] = [
    ("CAP_BPF", "load BPF programs"),
    ("CAP_PERFMON", "read the kernel's memory from them"),
    ("CAP_SYS_ADMIN", "reach tracefs and list tasks"),
];

/// # Errors
/// Where this process cannot trace, for want of a capability.
fn need_privileges(command: &str) -> anyhow::Result<()> {
    let held = crate::host::system::System::read(std::path::Path::new("/")).capabilities;
    let Some(held) = held else { return Ok(()) };
    for (name, what_for) in NEEDED {
        if !held.iter().any(|it| it == name) {
            anyhow::bail!(
                "agent {command} needs root: it has no {name}, to {what_for}; run it with sudo"
            );
        }
    }
    Ok(())
}

/// Log lines go to standard error; RUST_LOG says which, those of `level` and above unless it does.
fn log_to_stderr(level: &str) {
    use std::io::IsTerminal as _;
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let wanted = std::env::var("RUST_LOG").ok();
    let wanted = wanted.and_then(|wanted| wanted.parse::<Targets>().ok());
    let filter = wanted.or_else(|| level.parse().ok()).unwrap_or_default();
    // The library says every relocation: hundreds of lines before the first of ours.
    let filter = filter.with_target("aya_obj", LevelFilter::INFO);
    let colour = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(colour)
        // Of a line that nobody reads there is nobody to tell, and the attempt would panic.
        .log_internal_errors(false);
    let all = tracing_subscriber::registry().with(filter).with(lines);
    // A second one, in a test, is no harm.
    let _ = all.try_init();
}

/// Prints to standard output; a reader that has gone has seen enough.
fn print(text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    crate::sys::share_heap();
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

/// For one stream, which would go from thread to thread: each hand-over of a chunk costs more than to read it.
fn runtime_of_one() -> anyhow::Result<tokio::runtime::Runtime> {
    crate::sys::share_heap();
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Says which probes are missing of those that matter, and what they cost.
fn report_probes(pipeline: &Pipeline, matters: impl Fn(&str) -> bool) {
    let kernel = crate::lock::lock(&pipeline.shared().kernel);
    for status in kernel.statuses().iter().filter(|it| matters(it.probe)) {
        match &status.state {
            State::Failed { reason, .. } => tracing::warn!(
                "probe {} is not attached: {reason}; not seen: {}",
                status.probe,
                status.loss
            ),
            State::Off => {
                tracing::warn!("probe {} is off; not seen: {}", status.probe, status.loss);
            }
            State::Attached => {}
        }
    }
    let mut attached = kernel.statuses().iter().filter(|it| it.attached());
    if let Some(taxing) = attached.find(|it| it.mechanism == Mechanism::Syscall) {
        let passed_over = taxing.passed_over.first();
        let why = passed_over.map_or_else(String::new, |other| {
            let errno = other.errno.as_deref().unwrap_or(&other.reason);
            format!(
                "; {}s, which slow nothing, do not load: {errno}",
                other.mechanism.name()
            )
        });
        tracing::warn!(
            "unshare and setns are traced by system call tracepoints, which slow every system \
             call of this host by some 35 ns (128 to 162 ns for getppid){why}; agent serve \
             --syscall-probes off avoids that"
        );
    }
}
