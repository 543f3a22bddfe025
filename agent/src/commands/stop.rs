//! `agent stop`: ends containers.

use std::process::ExitCode;
use std::time::Duration;

use agent_model::units::Signal;
use agent_runtime::spec::value::number_in;
use agent_runtime::state::Store;
use agent_runtime::supervise;

use super::other_owners::{ContainerAction, explained};

const EXAMPLES: &str = "\
Examples:
  agent stop web             SIGTERM, and SIGKILL after 10 s
  agent stop -t 1 web db     two containers, SIGKILL after 1 s
  agent stop -s INT web      SIGINT, and SIGKILL after 10 s";

/// End containers: SIGTERM, and SIGKILL after a while
///
/// Sends the init process of each container of agent run SIGTERM, or the signal that -s, agent run
/// --stop-signal or the image names. If it has not ended in time, kills every process in the container's cgroup. Returns when
/// nothing of the container is left.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Seconds between the signal and SIGKILL
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10, allow_negative_numbers = true, value_parser = number_in(0..=u32::MAX))]
    time: u32,

    /// The signal that asks the container to end; by default the one it was started with, else SIGTERM
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<Signal>,

    /// The names of the containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Runs the command. `swept` names containers with a killed supervisor, which this command has just removed.
pub(super) fn run(args: &Args, swept: &[String]) -> anyhow::Result<ExitCode> {
    let store = Store::of_user();
    let patience = Duration::from_secs(args.time.into());
    super::each(&args.containers, |name| {
        if swept.iter().any(|it| it == name) {
            return Ok(());
        }
        let stopped = supervise::stop(&store, name, args.signal, patience);
        stopped.map_err(|error| explained(error, ContainerAction::Stop, name, &[]))
    })
}
