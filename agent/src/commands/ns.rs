//! `agent ns`: shows namespaces and the containers that share them.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_ebpf::NamespaceType;
use agent_host::namespace;
use agent_host::process::Process;
use agent_inventory::dot::graph;
use agent_inventory::namespaces;
use agent_inventory::namespaces::{NamespaceQuery, NamespaceState};
use agent_inventory::ns::table;
use agent_inventory::units::LiveUnit;
use agent_model::container::ContainerKind;
use agent_model::text::escape_json;
use agent_pipeline::look::HostLook;
use agent_stream::value::{parse_container, parse_namespace, parse_pid};
use agent_stream::{client, socket};
use anyhow::Context as _;

use super::engine::EngineArgs;
use super::{screen, unit};

const EXAMPLES: &str = "\
Examples:
  agent ns                                    every namespace, one line each
  agent ns --type net                         network namespaces alone
  agent ns --container web-1                  the namespaces of web-1
  agent ns --container cron.service           those of a unit of systemd
  agent ns --pid 4711 --output json           the namespaces of a process
  agent ns --output dot | dot -Tsvg > ns.svg  a graph of containers and the namespaces they share";

/// Show namespaces, and the containers that share them
///
/// OWNER is the oldest process in the namespace, UID its user. SHARED BY names the containers, units and
/// sandboxes that have processes in it; host stands for the host and all units in its own namespaces. For a
/// namespace without processes it names what keeps it: a mount, a thread, an open descriptor, or a process
/// whose children will be in it. Asks the agent serve that listens on the socket. Where none listens, scans the host itself: as root
/// all of it, as an ordinary user the namespaces of that user's processes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only namespaces of this type: cgroup, ipc, mnt, net, pid, time, user, uts
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_namespace)]
    kind: Option<NamespaceType>,

    /// Only namespaces with processes of this container, unit or sandbox: its name, id, or the first 12
    /// digits of the id; web.service is a unit of systemd
    #[arg(long, value_name = "NAME|ID", value_parser = parse_container)]
    container: Option<String>,

    /// Only the namespaces that this process is in or holds otherwise, by the host's pid
    #[arg(long, value_name = "PID", value_parser = parse_pid)]
    pid: Option<NonZeroU32>,

    /// human: a table; json: a list of objects; dot: a graph for graphviz
    #[arg(long, value_name = "human|json|dot", default_value = "human")]
    output: GraphOutput,

    /// The unix socket of agent serve; off: ask no server
    #[arg(long, value_name = "PATH|off", env = socket::VARIABLE, default_value = socket::DEFAULT, value_parser = super::socket::asked())]
    socket: PathBuf,

    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum GraphOutput {
    Human,
    Json,
    Dot,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let unit = args.unit()?;
    let wanted = args.wanted(unit.as_ref());
    let path = format!("/v1/namespaces?{}", wanted.query());
    let states = match client::fetch(&args.socket, &path).await {
        Ok(states) => states,
        Err(nobody) if nobody.is_no_server() || nobody.is_denied() => {
            let said = nobody.named_in_vain();
            let states = match super::need_privileges("ns without a server") {
                Ok(()) => alone(&args, &wanted).await.context(nobody)?,
                Err(refusal) => match as_user(&args, &wanted, unit.as_ref()).await {
                    Some(states) => states,
                    None if nobody.is_denied() => return Err(nobody.into()),
                    None => return Err(refusal.context(nobody)),
                },
            };
            args.need_found(&states, unit.as_ref())?;
            said.iter().for_each(|said| super::note(said));
            states
        }
        Err(error) => return Err(error.into()),
    };
    args.need_found(&states, unit.as_ref())?;
    args.need_one(&states, unit.as_ref())?;
    super::print(&match args.output {
        GraphOutput::Human => table(&states, screen::columns(), screen::colour()),
        GraphOutput::Json => {
            escape_json(&serde_json::to_string_pretty(&states)?).into_owned() + "\n"
        }
        GraphOutput::Dot => graph(&states),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Scans the host in this process.
async fn alone(args: &Args, wanted: &NamespaceQuery) -> anyhow::Result<Vec<NamespaceState>> {
    super::log_to_stderr("warn");
    found(&args.engine.look().await?, wanted)
}

/// Scans what an ordinary user may see. None where that cannot be done, or lacks the container or process of the flags.
async fn as_user(
    args: &Args,
    wanted: &NamespaceQuery,
    unit: Option<&LiveUnit>,
) -> Option<Vec<NamespaceState>> {
    let look = args.engine.look_as_user().await.ok()?;
    let states = found(&look, wanted).ok()?;
    args.need_found(&states, unit).ok()?;
    super::note(super::ONLY_OWN);
    Some(states)
}

fn found(look: &HostLook, wanted: &NamespaceQuery) -> anyhow::Result<Vec<NamespaceState>> {
    let mounted = namespace::mounted(Path::new("/"))?;
    let held = wanted.held(Path::new("/"));
    let found = namespaces::find(&look.registry, &look.tasks, &mounted, &held, wanted);
    Ok(namespaces::read_owners(found))
}

impl Args {
    /// The unit that the flag names.
    fn unit(&self) -> anyhow::Result<Option<LiveUnit>> {
        match &self.container {
            Some(name) => unit::find(name).with_context(|| format!("--container {name}")),
            None => Ok(None),
        }
    }

    fn wanted(&self, unit: Option<&LiveUnit>) -> NamespaceQuery {
        NamespaceQuery {
            kind: self.kind.map(|kind| kind.name().to_owned()),
            container: self.container.clone(),
            unit: unit.map(|unit| unit.container.cgroup.clone()),
            pid: self.pid,
        }
    }

    /// Checks that the flag names only one container, unit or sandbox.
    ///
    /// # Errors
    /// It names several.
    fn need_one(&self, states: &[NamespaceState], unit: Option<&LiveUnit>) -> anyhow::Result<()> {
        let Some(name) = &self.container else {
            return Ok(());
        };
        let all = states.iter().flat_map(|state| &state.containers);
        let meant = all.filter(|it| it.kind != ContainerKind::Unit && it.is_meant_by(name));
        let meant: BTreeSet<String> = meant
            .map(|it| format!("{} {}", it.runtime, it.id).trim().to_owned())
            .collect();
        let unit = unit.map(|unit| format!("unit {}", unit.container.cgroup));
        let all: Vec<String> = meant.into_iter().chain(unit).collect();
        if all.len() > 1 {
            let all = all.join(", ");
            anyhow::bail!("--container {name} means several; name one by its id: {all}");
        }
        Ok(())
    }

    /// Checks that the container or process of the flags was found.
    ///
    /// # Errors
    /// It does not exist.
    fn need_found(&self, states: &[NamespaceState], unit: Option<&LiveUnit>) -> anyhow::Result<()> {
        if !states.is_empty() {
            return Ok(());
        }
        if let Some(pid) = self.pid {
            anyhow::bail!(
                "--pid {pid}: {}",
                Process::new(Path::new("/"), pid.get()).unseen()
            );
        }
        if let Some(container) = &self.container {
            if let Some(unit) = unit {
                let cgroup = &unit.container.cgroup;
                anyhow::bail!(
                    "--container {container}: no process is in the unit's cgroup, {cgroup}"
                );
            }
            anyhow::bail!("--container {container}: {}", unit::nobody(container));
        }
        Ok(())
    }
}
