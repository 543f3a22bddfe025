//! Runs one more process in a running container (`agent exec`).

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use agent_host::faults;
use agent_host::pinned::Pinned;
use oci_spec::runtime::{Process, Spec};

use super::contain::{FAILED, end_of, filters, held_up, reap};
use super::signals::Signals;
use super::stop::first_process;
use super::streams::{self, WantedStreams};
use super::{Error, clean, sweep};
use crate::state::Store;
use crate::{launch, spec};

/// The command to run, and how it differs from the container's init process.
#[derive(Clone, Debug)]
pub struct Request {
    /// The name of the container.
    pub container: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// `NAME=VALUE`. These variables are added to those of the container, or replace them.
    pub environment: Vec<String>,
    /// The working directory. None stands for that of the container.
    pub directory: Option<PathBuf>,
    /// `USER[:GROUP]`. None stands for the container's user.
    pub user: Option<String>,
    /// Whether the command has a terminal of its own (`-t`).
    pub terminal: bool,
    /// Whether the command reads this process's standard input (`-i`).
    pub interactive: bool,
}

/// Runs a command in a container, in all of its namespaces and its cgroup, with its capabilities and system call
/// filter. The exit status is the command's, as for [`super::run`].
///
/// # Errors
/// The container does not run, or the command cannot be started.
pub fn exec(request: &Request) -> Result<u8, Error> {
    let store = Store::of_user();
    let swept = sweep(&store);
    let wanted = WantedStreams {
        terminal: request.terminal,
        interactive: request.interactive,
    };
    wanted.check()?;
    if swept.contains(&request.container) {
        let name = request.container.clone();
        return Err(Error::Abandoned { name });
    }
    let (record, container) = first_process(&store, &request.container)?;
    let spec = store.spec(&request.container)?;
    faults::point("found");
    let ended = |error: Error| match container.check() {
        Ok(()) => error,
        Err(_) => Error::NotRunning {
            name: record.name.clone(),
        },
    };
    let process = process(request, &container, &spec).map_err(ended)?;
    let cgroup = clean::joined(&record)?;
    cgroup.check()?;
    let (stdio, mut relay) = streams::foreground(wanted).map_err(Error::Streams)?;
    let mut signals = Signals::catch().map_err(Error::Streams)?;
    let entrances = cgroup.entrances()?;
    let running = launch::enter(
        &container,
        &process,
        &entrances,
        stdio,
        &filters(&spec)?,
        &mut signals,
    );
    let running = running.map_err(|error| ended(held_up(error.into(), &cgroup)))?;
    let mut raw = None;
    if let Some(terminal) = running.terminal {
        raw = streams::connect(terminal, wanted, false, &mut relay).map_err(Error::Streams)?;
    }
    let process = running.pidfd;
    // Only the command is killed. Processes that it started belong to the container, and stay.
    let kill = &mut || drop(agent_sys::fork::send_signal(process.as_fd(), libc::SIGKILL));
    let ended = relay.until_end(process.as_fd(), &mut signals, kill);
    ended.map_err(Error::Wait)?;
    let code = end_of(process.as_fd())?;
    let drained = relay.drain(process.as_fd(), &mut signals);
    drained.map_err(Error::Wait)?;
    drop(raw);
    reap(process.as_fd());
    Ok(match code {
        0 if relay.lost_output() => FAILED,
        code => code,
    })
}

/// Returns the process of the container's spec with the changes that the request asks for.
fn process(request: &Request, container: &Pinned, spec: &Spec) -> Result<Process, Error> {
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(request.command.clone()));
    process.set_terminal(Some(request.terminal));
    process.set_console_size(None);
    if request.terminal {
        streams::set_size(&mut process);
    }
    if let Some(directory) = &request.directory {
        process.set_cwd(directory.clone());
    }
    let mut environment = process.env().clone().unwrap_or_default();
    if let Some(user) = &request.user {
        let (_, root) = agent_host::launch::surroundings(container).map_err(launch::Error::from)?;
        let (user, home) = spec::user_in(root.as_fd(), Some(user), &[])?;
        process.set_user(user);
        environment.push(format!("HOME={home}"));
    }
    environment.extend(request.environment.iter().cloned());
    let environment = spec::environment::last_of_each(environment);
    process.set_env(Some(environment));
    Ok(process)
}
