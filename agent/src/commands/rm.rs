//! `agent rm`: removes the state and logs of containers that have ended.

use std::process::ExitCode;

use agent_runtime::state::Store;
use agent_runtime::supervise;

use super::other_owners::{ContainerAction, explained};

/// Remove containers that have ended, with their logs
///
/// A detached container of agent run leaves its exit status and log until it is removed, unless it was
/// started with --rm. Other containers leave nothing.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Kill containers that still run
    #[arg(short, long)]
    force: bool,

    /// The names of the containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Runs the command. `swept` names containers with a killed supervisor, which this command has just removed.
pub(super) fn run(args: &Args, swept: &[String]) -> anyhow::Result<ExitCode> {
    let store = Store::of_user();
    super::each(&args.containers, |name| {
        if swept.iter().any(|it| it == name) {
            return Ok(());
        }
        let removed = supervise::remove(&store, name, args.force);
        removed.map_err(|error| explained(error, ContainerAction::Remove, name, &[]))
    })
}
