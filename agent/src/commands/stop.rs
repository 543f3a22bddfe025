//! `agent stop`: ends containers.

use std::process::ExitCode;
use std::time::Duration;

use super::elsewhere::{Action, explained};
use crate::runtime::spec::value::number_in;
use crate::runtime::state::Store;
use crate::runtime::supervise;

const EXAMPLES: &str = "\
Examples:
  agent stop web             SIGTERM, and SIGKILL after 10 s
  agent stop -t 1 web db     with a second each to end well";

/// End containers: SIGTERM, time to obey, SIGKILL
///
/// The first process of each container of agent run gets SIGTERM, or the signal that --stop-signal or its image says; when it has not ended in time, all that
/// is in the container's cgroup is killed. Returns when nothing of it is left.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Seconds between SIGTERM and SIGKILL
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10, allow_negative_numbers = true, value_parser = number_in(0..=u32::MAX))]
    time: u32,

    /// The names of the containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `swept` are containers that were there when the command was called: their supervisors had been killed.
pub fn run(args: &Args, swept: &[String]) -> anyhow::Result<ExitCode> {
    let store = Store::of_user();
    let patience = Duration::from_secs(args.time.into());
    super::each(&args.containers, |name| {
        if swept.iter().any(|it| it == name) {
            return Ok(());
        }
        let stopped = supervise::stop(&store, name, patience);
        stopped.map_err(|error| explained(error, Action::Stop, name, &[]))
    })
}
