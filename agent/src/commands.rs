//! The subcommands, one file for each: arguments and wiring only.

mod confirmed;
mod doctor;
mod engine;
mod exec;
mod init_process;
mod inspect;
mod kill;
mod logs;
mod mechanisms;
mod ns;
mod other_owners;
mod ps;
mod records;
mod rm;
mod rootfs;
mod run;
mod screen;
mod serve;
mod socket;
mod stop;
mod subject;
mod unit;
mod units;
mod verify;
mod version;
mod wait;
mod watch;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_pipeline::Pipeline;
use agent_runtime::launch::stage;
use agent_runtime::state::Store;
use agent_runtime::supervise;
use agent_tracer::kernel::probes::{Mechanism, ProbeState};
use clap::Subcommand;

/// The subcommands of the program.
#[allow(
    missing_docs,
    reason = "clap prints the doc of each variant's arguments"
)]
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
    Kill(kill::Args),
    Wait(wait::Args),
    Rm(rm::Args),
    Verify(Box<verify::Args>),
    Rootfs(rootfs::Args),
    Doctor(doctor::Args),
    Version(version::Args),
}

/// Whether the first argument is one of these commands.
pub fn is(names: &[&str]) -> bool {
    let word = std::env::args_os().nth(1);
    word.is_some_and(|word| names.iter().any(|name| word == *name))
}

/// Prepares the process. The caller calls it before it reads the arguments: `run` and `exec` execute the program again
/// from a file that no container can write to, so everything done before would be done twice.
pub fn begin() {
    if stage::is_wanted() {
        stage::run();
    }
    if is(&["run", "exec"]) {
        // Where this fails, the command reports the error.
        let _ = protect();
    }
}

/// Runs a command, and returns the exit status of the program.
///
/// # Errors
/// The command failed.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    // `run` and `exec` clean up once they run from the file that no container can write to.
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
        Command::Version(args) => runtime_of_one()?.block_on(version::run(args)),
        Command::Rootfs(args) => rootfs::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        // A launcher has one thread, so it starts no runtime of tokio's.
        Command::Run(args) => run::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Exec(args) => Ok(exec::run(args)),
        Command::Logs(args) => logs::run(&args, &swept),
        Command::Stop(args) => stop::run(&args, &swept),
        Command::Kill(args) => kill::run(&args, &swept),
        Command::Wait(args) => wait::run(&args, &swept),
        Command::Rm(args) => rm::run(&args, &swept),
    }
}

/// The nice value of a process that reads events (nice(2)). auditd uses nearly the same: `priority_boost = 4`.
const PRIORITY: i32 = -5;

/// Raises the priority of this process. A storm on all CPUs would otherwise fill the queues of a reader of events before
/// the reader runs. The caller calls it before it starts a thread, because each thread has its own priority.
fn come_first() {
    // Without CAP_SYS_NICE the reader keeps the usual priority, and lost events are counted.
    let _ = rustix::process::nice(PRIORITY);
}

/// Executes the program again from a file that no container can write to. An ordinary user needs none: that user's
/// containers can do no more to the file than the user can.
fn protect() -> Result<(), supervise::Error> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.load(Ordering::Relaxed) && rustix::process::geteuid().is_root() {
        agent_runtime::launch::protect_executable()?;
        DONE.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// The exit status of `agent run` and `agent exec`: that of the container's command, or docker's where no command ran.
fn exit_of_container(status: Result<u8, supervise::Error>) -> ExitCode {
    let code = status.unwrap_or_else(|error| {
        complain(&error);
        error.status()
    });
    ExitCode::from(code)
}

/// Calls `act` for each container, and goes on after a failure. Prints each failure.
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

/// Checks that the container is not one of `swept`.
///
/// # Errors
/// The container's supervisor was killed, and this command has removed the container.
fn need_not_swept(name: &str, swept: &[String]) -> Result<(), supervise::Error> {
    match swept.iter().any(|it| it == name) {
        true => Err(supervise::Error::Abandoned { name: name.into() }),
        false => Ok(()),
    }
}

/// Prints an error in one line on standard error. Where standard error is closed, the exit status is all that remains.
fn complain(error: &(dyn std::error::Error + 'static)) {
    use std::io::Write as _;
    let line = agent_model::text::error_line(error);
    let _ = writeln!(std::io::stderr(), "agent: {line}");
}

use agent_model::text::note;

/// The capabilities that tracing needs (capabilities(7)), each with its purpose.
const NEEDED: [(&str, &str); 3] = [
    ("CAP_BPF", "load BPF programs"),
    ("CAP_PERFMON", "read the kernel's memory from them"),
    ("CAP_SYS_ADMIN", "reach tracefs and list tasks"),
];

/// The note of a command that an ordinary user runs without a server.
const ONLY_OWN: &str = "only this user's processes are seen; sudo shows those of all";

/// Checks that this process may trace.
///
/// # Errors
/// A capability is missing.
fn need_privileges(command: &str) -> anyhow::Result<()> {
    let held = agent_host::system::System::read(std::path::Path::new("/")).capabilities;
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

/// Writes log lines to standard error: those that RUST_LOG selects, or without it those of `level` and above.
fn log_to_stderr(level: &str) {
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let wanted = std::env::var("RUST_LOG").ok();
    let wanted = wanted.and_then(|wanted| wanted.parse::<Targets>().ok());
    let filter = wanted.or_else(|| level.parse().ok()).unwrap_or_default();
    // aya-obj logs every relocation, hundreds of lines before the agent's first.
    let filter = filter.with_target("aya_obj", LevelFilter::INFO);
    let colour = screen::is_coloured(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(colour)
        // A failed write to standard error cannot be reported there, and the attempt would panic.
        .log_internal_errors(false);
    let all = tracing_subscriber::registry().with(filter).with(lines);
    // In a test a subscriber may be set already.
    let _ = all.try_init();
}

/// Prints to standard output. A closed pipe is no error: the reader wants no more.
fn print(text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    agent_sys::share_heap();
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

/// A runtime with one thread, for `agent watch`. With several, handing a chunk over to another thread costs more than
/// reading it.
fn runtime_of_one() -> anyhow::Result<tokio::runtime::Runtime> {
    agent_sys::share_heap();
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Warns of each probe that matters and is not attached, and of probes that slow the host.
fn report_probes(pipeline: &Pipeline, matters: impl Fn(&str) -> bool) {
    let kernel = agent_model::lock::lock(&pipeline.shared().kernel);
    for status in kernel.statuses().iter().filter(|it| matters(it.probe)) {
        match &status.state {
            ProbeState::Failed { reason, .. } => tracing::warn!(
                "probe {} is not attached: {reason}; not seen: {}",
                status.probe,
                status.loss
            ),
            ProbeState::Off => {
                tracing::warn!("probe {} is off; not seen: {}", status.probe, status.loss);
            }
            ProbeState::Attached => {}
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
