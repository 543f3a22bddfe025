//! `agent ps`: shows containers, their state and their use of resources.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use agent_inventory::containers::{ContainerQuery, ContainerState, set_cpu_percent};
use agent_inventory::ps::{Field, Filter, Filters, Format};
use agent_inventory::{containers, idle, ps};
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
  agent ps -q --filter runtime=docker         ids alone
  agent ps --sort memory                      the largest first
  agent ps --units --filter kind=unit         systemd's services, scopes and slices
  agent ps --format 'table {{.Names}}\\t{{.Status}}'
  agent ps --output json | jq .[].name        everything that is known about each";

/// Show containers, their state and their use of resources
///
/// RUNTIME is the engine, or unit, or sandbox. With ? the cgroup's path has that engine's form, and neither
/// the engine nor one of its records confirms it. PID is the init process, of a unit or sandbox the oldest
/// one. MEMORY leaves out the inactive part of the page cache. LIMIT is the tightest of the container and
/// the cgroups above it. CPU is the share of one CPU, measured for a fifth of a second. Columns that a
/// narrow screen has no room for are left out; NAME and STATE stay. Asks the agent serve that listens on the
/// socket. Where none listens, scans the host itself, as root.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Also containers that do not run: docker's, those that agent run keeps, and those that were removed in
    /// the last 15 minutes, which only agent serve remembers
    #[arg(short, long)]
    all: bool,

    /// Also units of systemd that have a cgroup: services, scopes and slices
    #[arg(long)]
    units: bool,

    /// Also sandboxes: processes outside of containers and services with a pid or mount namespace of their own
    #[arg(long)]
    sandboxes: bool,

    /// Only ids, which all commands take
    #[arg(short, long, conflicts_with_all = ["format", "output"])]
    quiet: bool,

    /// Do not cut names to the screen's width, and show whole ids
    #[arg(long)]
    no_trunc: bool,

    /// Only containers of which this holds: name=PART, id=BEGINNING, status=STATE (with --all), image=IMAGE,
    /// runtime=ENGINE, kind=unit, label=KEY[=VALUE] (agent serve has the labels that its --label allows). Of several with
    /// one key one must hold, of labels all
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,

    /// A template of docker's form for each container, with fields as {{.Names}} and {{.Label "KEY"}}; with
    /// table before it, columns with titles; json: an object on each line
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "output")]
    format: Option<Format>,

    /// Sort by a field of --format: text in ascending order, numbers the largest first
    #[arg(long, value_name = "FIELD")]
    sort: Option<Field>,

    /// human: a table; json: a list of objects
    #[arg(long, value_name = "human|json", default_value = "human")]
    output: Output,

    /// The unix socket of agent serve; off: ask no server
    #[arg(long, value_name = "PATH|off", env = socket::VARIABLE, default_value = socket::DEFAULT, value_parser = super::socket::asked())]
    socket: PathBuf,

    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) async fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let filters = Filters(std::mem::take(&mut args.filter));
    args.all |= filters.ask_for_states();
    let mut states = match of_server(&args).await {
        Ok(states) => states,
        Err(nobody) if nobody.is_no_server() => {
            let said = nobody.named_in_vain();
            let states = alone(&args).await.context(nobody)?;
            said.iter().for_each(|said| super::note(said));
            states
        }
        Err(error) => return Err(error.into()),
    };
    states.retain(|state| filters.take(state));
    ps::sort(&mut states);
    if let Some(field) = &args.sort {
        field.sort(&mut states);
    }
    super::print(&args.shown(&states)?)?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    const fn wanted(&self) -> ContainerQuery {
        ContainerQuery {
            removed: self.all,
            units: self.units,
            sandboxes: self.sandboxes,
        }
    }

    fn shown(&self, states: &[ContainerState]) -> anyhow::Result<String> {
        let columns = match self.no_trunc {
            true => usize::MAX,
            false => screen::columns(),
        };
        Ok(match (&self.format, &self.output) {
            _ if self.quiet => ps::ids(states, self.no_trunc),
            (Some(format), _) => format.show(states, self.no_trunc, columns),
            (None, Output::Human) => ps::table(states, columns, screen::colour()),
            (None, Output::Json) => {
                escape_json(&serde_json::to_string_pretty(states)?).into_owned() + "\n"
            }
        })
    }
}

async fn of_server(args: &Args) -> Result<Vec<ContainerState>, ClientError> {
    let path = format!("/v1/containers?{}", args.wanted().query());
    let before: Vec<ContainerState> = client::fetch(&args.socket, &path).await?;
    if args.quiet && args.sort.is_none() {
        return Ok(before);
    }
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
            args.wanted(),
        );
        let found = found.into_iter();
        let mut states = found.map(|unread| unread.read(&look.hierarchies)).collect();
        if args.all {
            idle::add_kept(Path::new("/"), &mut states);
        }
        states
    };
    let (before, looked) = (read(), Instant::now());
    if args.quiet && args.sort.is_none() {
        return Ok(before);
    }
    tokio::time::sleep(INTERVAL).await;
    let mut states = read();
    set_cpu_percent(&mut states, &before, looked.elapsed());
    Ok(states)
}
