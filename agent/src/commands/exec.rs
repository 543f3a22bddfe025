//! `agent exec`: runs a command in a running container.

use std::path::PathBuf;
use std::process::ExitCode;

use agent_runtime::supervise::exec;

use super::other_owners::{ContainerAction, explained};

const EXAMPLES: &str = "\
Examples:
  agent exec web ps aux                       run a command in the container web
  agent exec -it web sh                       run a shell in it, on this terminal
  agent exec -u nobody -w /tmp -e A=1 web id  with a user, a directory and a variable

Exit status: that of the command; 128+N where signal N killed it; 127 where it is not found; 126
where it cannot be executed; 125 where the agent fails, for example because the container is paused.
The container's --pids-limit needs room for two more processes, one of them for a moment.";

/// Run a command in a running container
///
/// The command joins all namespaces and the cgroup of a container of agent run. It gets the container's
/// root file system, capabilities and system call filter. Its standard streams are pipes, which agent exec
/// relays: no file of the host is open in the container. agent exec ends when the command ends, even
/// while a process that the command started still runs.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Pass standard input on to the command; without this flag it reads nothing
    #[arg(short, long)]
    interactive: bool,

    /// Give the command a terminal of its own
    #[arg(short, long)]
    tty: bool,

    /// Run as this user and group: names of the container's own, or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Run in this directory of the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,

    /// Set an environment variable; NAME alone takes its value from the caller's environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// The name of the container
    container: String,

    /// The command to run, and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

pub(super) fn run(args: Args) -> ExitCode {
    let request = request(args);
    let status = super::protect().and_then(|()| exec::exec(&request));
    let status = status.map_err(|error| {
        let status = error.status();
        let (name, command) = (&request.container, &request.command);
        super::complain(explained(error, ContainerAction::Exec, name, command).as_ref());
        status
    });
    ExitCode::from(status.unwrap_or_else(|status| status))
}

fn request(args: Args) -> exec::Request {
    exec::Request {
        container: args.container,
        command: args.command,
        environment: args.env.iter().filter_map(|it| variable(it)).collect(),
        directory: args.workdir,
        user: args.user,
        terminal: args.tty,
        interactive: args.interactive,
    }
}

/// As in docker, a name alone means the variable of this process, if it is set.
fn variable(text: &str) -> Option<String> {
    if text.contains('=') {
        return Some(text.to_owned());
    }
    let value = std::env::var(text).ok()?;
    Some(format!("{text}={value}"))
}
