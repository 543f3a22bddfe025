//! `agent ps`: shows containers, their state and their use of resources.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use agent_inventory::containers::{ContainerState, set_cpu_percent};
use agent_inventory::ps::table;
use agent_inventory::{containers, idle};
use agent_model::text::escape_json;
use agent_stream::client::ClientError;
use agent_stream::{client, socket};
use anyhow::Context as _;

use super::engine::EngineArgs;
use super::screen;
use crate::commands::screen::Output;

/// The time between the two readings of CPU time.
const INTERVAL: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  agent ps                                    containers, one line each
  agent ps --all                              those too that have ended or were removed
  agent ps --output json | jq .[].name        everything that is known about each";

/// Show containers, their state and their use of resources
///
/// RUNTIME is the engine. With ? the cgroup's path has that engine's form, and neither the engine nor one
/// of its records confirms it. PID is the init process. MEMORY leaves out the inactive part of the page
/// cache. LIMIT is the tightest of the container and the cgroups above it. CPU is the share of one CPU,
/// measured for a fifth of a second. Asks the agent serve that listens on the socket. Where none listens,
/// scans the host itself, as root.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Also containers that do not run: docker's, those that agent run keeps, and those that were removed in
    /// the last 15 minutes, which only agent serve remembers
    #[arg(short, long)]
    all: bool,

    /// human: a table; json: a list of objects
    #[arg(long, value_name = "human|json", default_value = "human")]
    output: Output,

    /// The unix socket of agent serve; off: ask no server
    #[arg(long, value_name = "PATH|off", env = socket::VARIABLE, default_value = socket::DEFAULT, value_parser = super::socket::asked())]
    socket: PathBuf,

    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let states = match of_server(&args).await {
        Ok(states) => states,
        Err(nobody) if nobody.is_no_server() => {
            let said = nobody.named_in_vain();
            let states = alone(&args).await.context(nobody)?;
            said.iter().for_each(|said| super::note(said));
            states
        }
        Err(error) => return Err(error.into()),
    };
    super::print(&match args.output {
        Output::Human => table(&states, screen::columns(), screen::colour()),
        Output::Json => escape_json(&serde_json::to_string_pretty(&states)?).into_owned() + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn of_server(args: &Args) -> Result<Vec<ContainerState>, ClientError> {
    let path = format!("/v1/containers?removed={}", args.all);
    let before: Vec<ContainerState> = client::fetch(&args.socket, &path).await?;
    let looked = Instant::now();
    tokio::time::sleep(INTERVAL).await;
    let mut states: Vec<ContainerState> = client::fetch(&args.socket, &path).await?;
    set_cpu_percent(&mut states, &before, looked.elapsed());
    Ok(states)
}

/// Scans the host in this process.
async fn alone(args: &Args) -> anyhow::Result<Vec<ContainerState>> {
    super::need_privileges("ps without a server")?;
    super::log_to_stderr("warn");
    let look = args.engine.look().await?;
    let read = || -> Vec<ContainerState> {
        let found = containers::find(
            &look.registry,
            &look.hierarchies,
            &look.tasks,
            None,
            args.all,
        );
        let found = found.into_iter();
        let mut states = found.map(|unread| unread.read(&look.hierarchies)).collect();
        if args.all {
            idle::add_kept(Path::new("/"), &mut states);
        }
        states
    };
    let (before, looked) = (read(), Instant::now());
    tokio::time::sleep(INTERVAL).await;
    let mut states = read();
    set_cpu_percent(&mut states, &before, looked.elapsed());
    Ok(states)
}
