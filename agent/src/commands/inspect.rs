//! `agent inspect`: shows everything about one container or process, each fact with its source.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_host::Error;
use agent_host::membership::Membership;
use agent_host::namespace;
use agent_host::pinned::Pinned;
use agent_host::process::Process;
use agent_inventory::containers::{ContainerQuery, ContainerState};
use agent_inventory::inspect::{ProcessReport, Usage, page, read};
use agent_inventory::namespaces::{NamespaceQuery, NamespaceState};
use agent_inventory::units::LiveUnit;
use agent_inventory::{containers, namespaces};
use agent_model::container::{Container, ContainerKind};
use agent_model::limit::Intent;
use agent_model::text::escape_json;
use agent_pipeline::look::HostLook;
use agent_stream::client::ClientError;
use agent_stream::value::parse_container;
use agent_stream::{client, socket};
use anyhow::Context as _;

use super::confirmed::{self, ConfirmedContainer, Confirmer, ContainerSearch};
use super::engine::EngineArgs;
use super::init_process::own_process;
use super::{screen, subject, unit};
use crate::commands::screen::Output;

const EXAMPLES: &str = "\
Examples:
  agent inspect web-1                                     a container, by its init process
  agent inspect 4711                                      a process
  agent inspect cron.service                              a unit of systemd, by its main process
  agent inspect web-1 --output json | jq .not_isolated    what it is not isolated from";

/// Show everything about a container, unit or process, and what it is not isolated from
///
/// Shows the command line, start time and host name, what the container uses now, namespaces and the
/// containers that share them, interfaces with addresses, the root and how it was changed, mounts, ids,
/// capabilities, seccomp, cgroups, and each limit with the cgroup that it comes from. Each fact has the
/// file that it was read from. Asks the agent serve that listens on the socket for the containers. Where
/// none listens, scans the host itself: as root all of it, as an ordinary user that user's own processes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The name, id or beginning of the id of a container; the name of a unit of systemd, as cron.service;
    /// or the host's pid of a process
    #[arg(value_name = "NAME|ID|PID", value_parser = parse_container)]
    target: String,

    /// human: a page; json: an object
    #[arg(long, value_name = "human|json", default_value = "human")]
    output: Output,

    /// The unix socket of agent serve; off: ask no server
    #[arg(long, value_name = "PATH|off", env = socket::VARIABLE, default_value = socket::DEFAULT, value_parser = super::socket::asked())]
    socket: PathBuf,

    #[command(flatten)]
    engine: EngineArgs,
}

/// The source of the lists of containers and namespaces.
enum Inventory {
    Server {
        socket: PathBuf,
        /// Whether the server is root's or this user's.
        trusted: bool,
    },
    Look(Box<HostLook>),
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (inventory, states, refusal) = args.inventory().await?;
    let containers = states.iter().map(|it| &it.container);
    let containers = containers.filter(|it| it.kind.is_container());
    let all: Vec<Container> = containers.cloned().collect();
    let target = &args.target;
    let is_trusted = matches!(inventory, Inventory::Server { trusted: true, .. });
    let fresh = Confirmer::new(&args.engine)
        .await?
        .believing_server(is_trusted);
    let unit = unit::find(target).with_context(|| target.clone())?;
    let found = process_of(target, &states, &fresh, unit.as_ref()).await;
    let gone = |pid: u32| {
        let why = Process::new(Path::new("/"), pid).unseen();
        anyhow::anyhow!("{target}: {why}")
    };
    let found = found.with_context(|| target.clone())?;
    if let Some(refusal) = refusal {
        if !found.as_ref().is_some_and(|it| inventory.sees(it.number())) {
            return Err(refusal);
        }
        super::note(super::ONLY_OWN);
    }
    let Some(process) = found else {
        if let Ok(number) = target.parse::<NonZeroU32>() {
            return Err(gone(number.get()));
        }
        anyhow::bail!(
            "{target} is no process's number, and {}",
            unit::nobody(target)
        );
    };
    let pid = NonZeroU32::new(process.number()).context("a process's number")?;
    let namespaces = inventory.namespaces(pid).await?;
    // A process of a unit that is asked for may be in a container in that unit.
    let subject = unit.map(|unit| unit.container);
    let subject = subject.or_else(|| subject::of(pid, &all, &namespaces, &states));
    let intent = args.intent(pid.get(), subject.as_ref(), &fresh).await;
    let read = read(
        Path::new("/"),
        pid.get(),
        subject.as_ref(),
        &namespaces,
        intent.as_ref(),
    );
    // Another process may have the same pid by this time.
    let is_itself = process.check().is_ok();
    let report = match read {
        Ok(report) if is_itself => ProcessReport {
            usage: usage(&report, &states),
            not_judged: match Membership::of(Path::new("/"), pid.get()) {
                Ok(membership) => unit::not_judged(&membership).await,
                Err(_) => Vec::new(),
            },
            ..report
        },
        Ok(_) | Err(Error::Gone { .. }) => return Err(gone(pid.get())),
        Err(error) => return Err(error.into()),
    };
    super::print(&match args.output {
        Output::Human => page(&report, screen::columns(), screen::colour()),
        Output::Json => escape_json(&serde_json::to_string_pretty(&report)?).into_owned() + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the use of resources, with the OOM kills of the whole container in place of those of its own cgroup.
fn usage(report: &ProcessReport, states: &[ContainerState]) -> Option<Usage> {
    let mut usage = report.usage.clone()?;
    let container = report.container.as_ref();
    let mut states = states.iter();
    if let Some(state) = states.find(|state| Some(&state.container) == container)
        && let Some(kills) = state.oom_kills
    {
        usage.oom_kills.value = Some(kills);
        usage.oom_kills.unreadable = None;
    }
    Some(usage)
}

/// Finds the process to inspect. The target is tried as a container's name, id or cgroup first, then as a pid, then as the
/// beginning of an id.
async fn process_of(
    target: &str,
    states: &[ContainerState],
    fresh: &Confirmer,
    unit: Option<&LiveUnit>,
) -> anyhow::Result<Option<Pinned>> {
    let found = confirmed::running(states);
    let search = ContainerSearch::new(target, &found, fresh);
    let named = search.whole().await?;
    let sandbox = subject::sandbox(target, states);
    let other = unit.map(|unit| &unit.container);
    let other = other.or(sandbox.map(|sandbox| &sandbox.container));
    if let (Some(known), Some(other)) = (&named, other) {
        return Err(unit::ambiguous(known, other));
    }
    if let Some(unit) = unit {
        return unit::process(unit).await.map(Some);
    }
    if let Some(process) = sandbox.and_then(subject::process_of) {
        return Ok(Some(process));
    }
    // A container of this user's in another user's cgroup is found only by its state.
    let own = || own_process(target);
    let number = || Pinned::open(target.parse().ok()?);
    let named = named.and_then(|known| known.process);
    Ok(match named.or_else(own).or_else(number) {
        Some(process) => Some(process),
        None => search.by_prefix().await?.and_then(|known| known.process),
    })
}

impl Args {
    /// The source of the inventory, and the containers that exist. An ordinary user's look comes with the error for a
    /// process that this user may not see.
    async fn inventory(
        &self,
    ) -> anyhow::Result<(Inventory, Vec<ContainerState>, Option<anyhow::Error>)> {
        const PATH: &str = "/v1/containers?sandboxes=true";
        let server = |trusted| Inventory::Server {
            socket: self.socket.clone(),
            trusted,
        };
        match client::fetch_trusted(&self.socket, PATH).await {
            Ok(states) => Ok((server(true), states, None)),
            Err(ClientError::Foreign { .. }) => {
                let states = client::fetch(&self.socket, PATH).await?;
                Ok((server(false), states, None))
            }
            Err(nobody) if nobody.is_no_server() || nobody.is_denied() => {
                let said = nobody.named_in_vain();
                let (look, refusal) = match super::need_privileges("inspect without a server") {
                    Ok(()) => (self.alone().await.context(nobody)?, None),
                    Err(refusal) => {
                        let refusal: anyhow::Error = match nobody.is_denied() {
                            true => nobody.into(),
                            false => refusal.context(nobody),
                        };
                        match self.engine.look_as_user().await {
                            Ok(look) => (Box::new(look), Some(refusal)),
                            Err(_) => return Err(refusal),
                        }
                    }
                };
                // Where this user's look does not suffice, the refusal says the same.
                if refusal.is_none() {
                    said.iter().for_each(|said| super::note(said));
                }
                let states = states(&look);
                Ok((Inventory::Look(look), states, refusal))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The intended limits of the process's container or unit, where they are known.
    async fn intent(
        &self,
        pid: u32,
        subject: Option<&Container>,
        fresh: &Confirmer,
    ) -> Option<Intent> {
        let container = subject?.clone();
        let known = match container.kind {
            ContainerKind::Container => fresh.know(&(container, Some(pid))).await?,
            _ => ConfirmedContainer::without_record(container),
        };
        match known.intent(self.engine.socket()).await {
            Ok(intent) => intent,
            Err(error) => {
                super::complain(&error);
                None
            }
        }
    }

    /// Scans the host in this process.
    async fn alone(&self) -> anyhow::Result<Box<HostLook>> {
        super::log_to_stderr("warn");
        Ok(Box::new(self.engine.look().await?))
    }
}

fn states(look: &HostLook) -> Vec<ContainerState> {
    let found = containers::find(
        &look.registry,
        &look.hierarchies,
        &look.tasks,
        None,
        ContainerQuery {
            sandboxes: true,
            ..ContainerQuery::default()
        },
    );
    let found = found.into_iter();
    found.map(|unread| unread.read(&look.hierarchies)).collect()
}

impl Inventory {
    /// Whether a look has found this process. A server sees all.
    fn sees(&self, pid: u32) -> bool {
        match self {
            Self::Server { .. } => true,
            Self::Look(look) => look.tasks.iter().any(|task| task.pid == pid),
        }
    }

    /// The namespaces that a process itself is in.
    async fn namespaces(&self, pid: NonZeroU32) -> anyhow::Result<Vec<NamespaceState>> {
        let mut states = self.all_namespaces(pid).await?;
        states.retain(|state| !state.is_only_held_by(pid.get()));
        Ok(states)
    }

    async fn all_namespaces(&self, pid: NonZeroU32) -> anyhow::Result<Vec<NamespaceState>> {
        let wanted = NamespaceQuery {
            pid: Some(pid),
            ..NamespaceQuery::default()
        };
        Ok(match self {
            Self::Server { socket, .. } => {
                let path = format!("/v1/namespaces?{}", wanted.query());
                client::fetch(socket, &path).await?
            }
            Self::Look(look) => {
                let mounted = namespace::mounted(Path::new("/"))?;
                namespaces::find(&look.registry, &look.tasks, &mounted, &[], &wanted)
            }
        })
    }
}
