//! `agent run`: launches a container.

use std::process::ExitCode;

use crate::runtime::spec::{self, Flags};
use crate::runtime::state::{Status, Store};
use crate::runtime::supervise;

/// Launch a container
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Print help
    // As with docker, -h is --hostname.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    #[command(flatten)]
    flags: Flags,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let flags = &args.flags;
    let compiled = spec::look(flags, first_process).and_then(|found| spec::compile(flags, &found));
    let order = match compiled {
        Ok(order) => order,
        Err(error) => return Ok(super::exit_of_container(Err(error.into()))),
    };
    if flags.manner.print_spec {
        let text = serde_json::to_string_pretty(&order.spec)? + "\n";
        super::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(super::exit_of_container(
        super::protect().and_then(|()| supervise::run(order)),
    ))
}

/// Of a container of `agent run`.
fn first_process(name: &str) -> Option<i32> {
    match Store::of_user().read(name).ok()?.status {
        Status::Running { pid } => Some(pid),
        _ => None,
    }
}
