//! Parses the arguments, runs the subcommand, and returns its exit status.

use std::io::Write as _;
use std::process::ExitCode;

use agent::commands::{self, Command};
use agent_model::text;
use clap::Parser as _;

/// With musl's own allocator a launch takes twice the time.
#[cfg(target_env = "musl")]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// See what containers do to the kernel, run them, and prove their limits
///
/// Traces namespace calls, OOM kills, processes and escapes with eBPF, and attributes each to its container. Exports
/// Prometheus metrics (serve) and a live stream (watch). Launches containers (run), and verifies limits (verify).
#[derive(clap::Parser)]
#[command(
    name = "agent",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
#[command(after_help = "\
Begin with:
  agent doctor     what this kernel and these privileges allow
  agent serve      trace the host, serve /metrics on 127.0.0.1:9464
  agent watch      in a second terminal: events as they happen
  agent ps         containers, their state and use
  agent ns         namespaces, and the containers that share them
  agent inspect    everything about one container, and what it is not isolated from
  agent run        a container: agent run --bin bash,ls bash
  agent verify     whether limits hold: agent verify --memory 64m -- stress-ng --vm 1")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The exit status of misuse (`EX_USAGE` of sysexits.h).
const MISUSE: u8 = 64;

fn main() -> ExitCode {
    commands::begin();
    let command = match Cli::try_parse().map(|cli| cli.command) {
        Ok(command) => command,
        Err(error) if !error.use_stderr() => {
            // Help and version go to standard output. A closed pipe is no error: the reader wants no more.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return misuse(&error),
    };
    match commands::run(command) {
        Ok(code) => code,
        Err(error) => {
            complain(&text::error_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Prints an error of the arguments in one line, and returns the exit status of misuse.
fn misuse(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(misuse_status());
    }
    let rendered = error.render().to_string();
    let said = rendered.split("\n\n").next().unwrap_or_default();
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let words: Vec<&str> = said.split_whitespace().collect();
    let said = words.join(" ");
    let said = text::said(&said);
    let meant = suggested(error).unwrap_or_default();
    complain(&format!("{said}{meant} (--help says more)"));
    ExitCode::from(misuse_status())
}

/// The most names that are suggested.
const SUGGESTED: usize = 2;

/// Formats the names with a similar spelling that clap suggests.
fn suggested(error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue};
    const KINDS: [ContextKind; 3] = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ];
    let names = KINDS.into_iter().flat_map(|kind| match error.get(kind) {
        Some(ContextValue::String(name)) => vec![name.clone()],
        Some(ContextValue::Strings(names)) => names.clone(),
        _ => Vec::new(),
    });
    // clap's last suggestion is the most similar one.
    let names: Vec<String> = names.map(|name| format!("'{name}'")).collect();
    let names: Vec<String> = names.into_iter().rev().take(SUGGESTED).collect();
    (!names.is_empty()).then(|| format!("; did you mean {}?", names.join(" or ")))
}

/// Returns the exit status of misuse. That of `run` and `exec` is docker's, because their other statuses are those of
/// the container's command.
fn misuse_status() -> u8 {
    if commands::is(&["run", "exec"]) {
        return 125;
    }
    MISUSE
}

/// Prints an error on standard error. Where standard error is closed, the exit status is all that remains.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "agent: {text}");
}
