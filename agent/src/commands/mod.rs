//! One file a subcommand: arguments and wiring only.

mod doctor;
mod serve;
mod watch;

use std::process::ExitCode;

use clap::Subcommand;

/// What the program can do.
#[derive(Subcommand)]
pub enum Command {
    Serve(serve::Args),
    Watch(watch::Args),
    Doctor(doctor::Args),
}

/// Does it.
///
/// # Errors
/// Where it cannot be done; [`one_line`] says why.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => runtime()?.block_on(serve::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Watch(args) => runtime()?.block_on(watch::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::run(&args),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// An error and its causes in one line, without what could forge another.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        // An error that only passes another on says the same.
        if parts.last().is_none_or(|last| *last != text) {
            parts.push(text);
        }
    }
    crate::text::escape(&parts.join(": ")).into_owned()
}
