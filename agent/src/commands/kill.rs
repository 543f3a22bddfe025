//! `agent kill`: sends a signal to containers.

use std::process::ExitCode;

use agent_model::units::Signal;
use agent_runtime::state::Store;
use agent_runtime::supervise;

use super::other_owners::{ContainerAction, explained};

const EXAMPLES: &str = "\
Examples:
  agent kill web             kill every process of web at once
  agent kill -s HUP web      send SIGHUP to its init process";

/// Send a signal to containers; by default SIGKILL
///
/// Sends the signal to the init process of each container of agent run, which gets only signals that it
/// handles. SIGKILL kills every process in the container's cgroup, and returns when nothing of the container
/// is left.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The signal: a name or a number, as SIGHUP, HUP, 1 or RTMIN+3
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: Signal,

    /// The names of the containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Runs the command. `swept` names containers with a killed supervisor, which this command has just removed.
pub(super) fn run(args: &Args, swept: &[String]) -> anyhow::Result<ExitCode> {
    let store = Store::of_user();
    let signal = args.signal.0.to_string();
    super::each(&args.containers, |name| {
        super::need_not_swept(name, swept)?;
        let sent = supervise::signal(&store, name, args.signal);
        let words = std::slice::from_ref(&signal);
        sent.map_err(|error| explained(error, ContainerAction::Kill, name, words))
    })
}
