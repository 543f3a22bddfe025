//! `agent run`: launches a container.

use std::os::fd::AsFd as _;
use std::process::ExitCode;

use agent_host::rootless;
use agent_model::text;
use agent_runtime::order::Order;
use agent_runtime::spec::Flags;
use agent_runtime::state::Store;
use agent_runtime::{spec, supervise};

use super::init_process::init_process;

const EXAMPLES: &str = "\
Examples:
  agent run --bin bash,ls,ps bash -c 'ls /; ps'      only these programs and their libraries
  agent run -it --rootfs host bash                   this host's files, read-only
  agent run --image web.tar                          an image that docker save wrote
  agent run -d --name web --memory 64m --cpus 0.5 --pids-limit 50 --bin busybox busybox httpd -f
  agent run --net container:web --bin ss ss -ltn     another container's network
  agent run --userns auto --bin id id                root inside, an unprivileged user outside
  agent run --time-offset 1d --bin uptime uptime     clocks that are a day ahead
  agent run --print-spec --rootfs ./root sh          the resulting OCI config.json

While it runs, use agent exec, logs, stop, wait, rm, ps and ns. A running agent serve or agent watch
knows the container from its start.

Exit status: that of the command; 128+N where signal N ended it; 127 where the command is not found, 126
where it cannot be executed, 125 where the container cannot be made.";

/// Launch a container
///
/// The root file system comes from a directory, a few programs, an image's archive or the host's own files.
/// Namespaces, limits, capabilities and the system call filter have docker's flags, with docker's meaning.
/// An ordinary user can launch containers where user namespaces are allowed. Their cgroup is below the
/// caller's own, and they have limits where that cgroup is delegated.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES, disable_help_flag = true, override_usage = USAGE)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,

    /// Print help
    // -h is the host name, as in docker.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

const USAGE: &str = "agent run --rootfs DIR|host [OPTIONS] COMMAND [ARG]...
       agent run --bin NAME,... [OPTIONS] COMMAND [ARG]...
       agent run --image FILE [OPTIONS] [COMMAND [ARG]...]
       agent run --bundle DIR [--name NAME] [-d] [-i] [--rm] [--cgroup-parent PATH]";

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let flags = &args.flags;
    let print = flags.manner.print_spec;
    if !print && let Err(error) = super::protect() {
        return Ok(super::exit_of_container(Err(error)));
    }
    let compiled = spec::look(flags, init_process).and_then(|found| spec::compile(flags, &found));
    let order = match compiled {
        Ok(order) => order,
        Err(error) => return Ok(super::exit_of_container(Err(error.into()))),
    };
    order.notes.iter().for_each(|note| text::note(note));
    if !print {
        return Ok(super::exit_of_container(supervise::run(order)));
    }
    match configuration(order) {
        Ok(text) => super::print(&text)?,
        Err(error) => return Ok(super::exit_of_container(Err(error))),
    }
    Ok(ExitCode::SUCCESS)
}

/// The OCI configuration of an order. It prepares the root file system first, which an image's defaults depend on.
fn configuration(mut order: Order) -> Result<String, supervise::Error> {
    supervise::sweep(&Store::of_user());
    rootless::enter()?;
    let tree = agent_rootfs::prepare(&order.root, &order.spec, &|| Ok(()), None)?;
    spec::complete(&mut order, tree.image.as_ref(), tree.mount.as_fd())?;
    Ok(spec::to_json(&order.spec))
}
