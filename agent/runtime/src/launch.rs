//! Launches a container from its spec: everything from clone to exec.
//!
//! The launcher holds one value after the other, and the new process waits for the launcher between them:
//!
//! - [`launch`] clones the new process into its namespaces (and its v2 cgroup), and returns a [`Started`]. The new
//!   process mounts and prepares. Meanwhile the caller makes the v1 cgroups and connects the network.
//! - [`Started::go`] lets the new process enter its cgroups and cgroup namespace, give up privileges, and exec. It
//!   returns a [`Running`] when the command runs, or the error of the step that failed.

mod ahead;
mod cgroups;
mod channel;
mod child;
mod entry;
mod error;
mod executable;
mod join;
mod own_mounts;
mod place;
mod plan;
pub mod stage;
mod stdio;
mod terminal;
mod timed_lookup;
mod wait;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use agent_host::faults::{self, guarded};
use agent_host::interrupts::Interrupts;
use agent_host::pinned::Pinned;
use agent_network::Network;
use agent_sys::launch::{Kin, Side, clone, enter as enter_namespace, map_owners, unshare};
pub use cgroups::Cgroups;
pub use entry::Entrances;
pub use error::Error;
pub use executable::protect_executable;
use oci_spec::runtime::{Linux, Process};
pub use plan::identity::too_few_descriptors;
use rustix::fs::{Uid, fchown};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, pidfd_send_signal};
pub use stdio::Stdio;

use self::ahead::Ahead;
use self::channel::{Channel, ChildReport, LauncherMessage};
use self::child::Step;
use self::entry::{Entry, Streams};
use self::plan::command::Command;
use self::plan::identity::ProcessIdentity;
use self::plan::namespaces::{Join, Namespaces};
use self::plan::{ContainerPlan, Plan};
use self::wait::{KillGuard, Wait};
use super::order::Order;

/// An init process that waits for [`Started::go`]. Dropping the value kills the process.
#[derive(Debug)]
pub struct Started {
    /// The pid of the init process in the host's pid namespace.
    pub pid: Pid,
    /// The pidfd of the init process.
    pub pidfd: OwnedFd,
    channel: Channel,
    steps: &'static [Step],
    guard: KillGuard,
    /// The entry that runs the command, where the init process only builds the container.
    ahead: Option<Ahead>,
}

/// Returns the names of an init process's steps in their order, as errors and fault points use them.
pub fn init_steps() -> impl Iterator<Item = &'static str> {
    child::FIRST.iter().map(|step| step.name)
}

/// Returns the names of the steps of a process that enters a container, in their order.
pub fn exec_steps() -> impl Iterator<Item = &'static str> {
    child::ENTER.iter().map(|step| step.name)
}

/// A process that runs the command.
#[derive(Debug)]
pub struct Running {
    /// The pid of the process in the host's pid namespace.
    pub pid: Pid,
    /// The pidfd of the process.
    pub pidfd: OwnedFd,
    /// The controller of the container's terminal, where the container has one.
    pub terminal: Option<OwnedFd>,
}

/// Starts a container's init process.
///
/// `root` is a detached mount, which becomes the root. The calling process must have one thread.
///
/// # Errors
/// The kernel refuses what the order asks for, something that the order names does not exist, or a signal came.
pub fn launch(
    order: &Order,
    root: BorrowedFd<'_>,
    cgroups: &Cgroups<'_>,
    stdio: Stdio,
    filters: &[agent_seccomp::FilterProgram],
    interrupts: &mut dyn Interrupts,
) -> Result<Started, Error> {
    let Some(process) = order.spec.process() else {
        return Err(Error::invalid(
            "process: the spec has none; say what to run",
        ));
    };
    let empty = Linux::default();
    let connected = matches!(order.network, Network::Veth { .. });
    let mut namespaces = Namespaces::new(order.spec.linux().as_ref().unwrap_or(&empty), connected)?;
    check_members(order)?;
    let container = ContainerPlan::new(order, root, &namespaces, cgroups, interrupts)?;
    let (steps, stdio, ahead) = if guarded(faults::Guard::Entry)
        && let Some(pids) = namespaces.take_joined(libc::CLONE_NEWPID)
    {
        if order.init {
            return Err(Error::invalid(
                "--init: the container is in another's pid namespace, whose init process reaps; leave --init out",
            ));
        }
        let (given, ahead) = Ahead::new(pids, &namespaces, process, filters, stdio.above()?)?;
        (child::building(), given, Some(ahead))
    } else {
        (&child::FIRST[..], stdio.above()?, None)
    };
    let plan = Plan {
        fault: faults::wanted().and_then(|step| number_of(steps, &step)),
        namespaces,
        container: Some(container),
        joined_root: None,
        stdio,
        identity: ProcessIdentity::new(process)?,
        filters,
        command: Command::new(process, "/")?,
        reaper: order
            .init
            .then(agent_host::launch::start_area)
            .transpose()?,
        hold: faults::held(),
        stage: None,
    };
    start(
        &plan,
        steps,
        cgroups.born,
        process.oom_score_adj(),
        ahead,
        interrupts,
    )
}

/// Checks that the opened namespaces belong to the containers that the order names: their init processes still live.
fn check_members(order: &Order) -> Result<(), Error> {
    for (name, member) in &order.members {
        member.check().map_err(|_| {
            Error::invalid(format!(
                "container:{name}: its init process, {}, has ended since it was found; none of its namespaces is joined",
                member.number()
            ))
        })?;
    }
    Ok(())
}

/// Runs one more process in a container, in all of its namespaces and its root. When the container can see the process,
/// the process holds nothing of the host's (see `entry.rs`).
///
/// `container` is the container's init process.
///
/// # Errors
/// Those of [`launch`], or the deadline passed.
pub fn enter(
    container: &Pinned,
    process: &Process,
    entrances: &Entrances<'_>,
    stdio: Stdio,
    filters: &[agent_seccomp::FilterProgram],
    interrupts: &mut dyn Interrupts,
) -> Result<Running, Error> {
    let (kinds, root) = agent_host::launch::surroundings(container)?;
    let namespace = container
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::Step {
            step: "join",
            subject: "container".to_owned(),
            source,
        })?;
    let (streams, terminal) = match stdio.above()? {
        Stdio::Files {
            stdin,
            stdout,
            stderr,
        } => {
            let streams = Streams {
                input: stdin,
                output: stdout,
                errors: stderr,
            };
            (streams, None)
        }
        Stdio::Terminal => {
            let controller = terminal::open(root.as_fd())?;
            let streams = terminal::streams(controller.as_fd())?;
            if let Some(owner) = agent_host::launch::user_outside(container, process.user().uid()) {
                // A user namespace that maps one id has no other owner to give.
                let _ = fchown(&streams.errors, Some(Uid::from_raw(owner)), None);
            }
            (streams, Some(controller))
        }
    };
    let entry = Entry {
        joins: vec![Join {
            namespace,
            kinds,
            subject: c"the container's namespaces".to_owned(),
        }],
        root,
        process: process.clone(),
        filters: filters.to_vec(),
        streams,
        terminal,
    };
    entry.go(entrances, interrupts)
}

fn number_of(steps: &[Step], name: &str) -> Option<usize> {
    steps.iter().position(|step| step.name == name)
}

fn start(
    plan: &Plan<'_>,
    steps: &'static [Step],
    cgroup: Option<BorrowedFd<'_>>,
    oom_score: Option<i32>,
    ahead: Option<Ahead>,
    interrupts: &mut dyn Interrupts,
) -> Result<Started, Error> {
    faults::point("clone");
    let failed = |errno| Error::step("clone", "new process", errno);
    let (ours, theirs) = channel::pair().map_err(failed)?;
    let (pid, pidfd) = match born(plan, cgroup, interrupts)? {
        Side::Child => {
            drop(ours);
            child::run(plan, steps, theirs)
        }
        Side::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    faults::point("cloned");
    let guard = KillGuard::new(pidfd.try_clone().map_err(|source| Error::Step {
        step: "clone",
        subject: "new process".to_owned(),
        source,
    })?);
    let started = Started {
        pid,
        pidfd,
        channel: ours,
        steps,
        guard,
        ahead,
    };
    if let Some(score) = oom_score {
        agent_host::launch::set_oom_score_adjustment(pid, score).map_err(|error| {
            Error::invalid(format!(
                "--oom-score-adj {score}: {error}; below that of this command it needs CAP_SYS_RESOURCE"
            ))
        })?;
    }
    if plan.namespaces.has(libc::CLONE_NEWUSER) {
        map(plan, &started)?;
    }
    Ok(started)
}

/// Clones the init process. The launcher makes the time namespace first, because time offsets can be written only while
/// no process is in it (time_namespaces(7)).
fn born(
    plan: &Plan<'_>,
    cgroup: Option<BorrowedFd<'_>>,
    interrupts: &mut dyn Interrupts,
) -> Result<Side, Error> {
    let namespaces = &plan.namespaces;
    let own_time = if namespaces.has(libc::CLONE_NEWTIME) {
        let own = agent_host::launch::own_namespace("time")?;
        unshare(libc::CLONE_NEWTIME)
            .map_err(|errno| Error::step("clone", "time namespace", errno))?;
        if !namespaces.time_offsets.is_empty() {
            agent_host::launch::set_time_offsets(&namespaces.time_offsets).map_err(|error| {
                Error::invalid(format!(
                    "--time-offset: {error}; a clock goes back no further than to this host's start"
                ))
            })?;
        }
        Some(own)
    } else {
        None
    };
    let side = if namespaces.joined.is_empty() {
        let kinds = namespaces.cloned() as u32;
        clone(u64::from(kinds), cgroup, Kin::Child).map_err(refused)
    } else {
        join::born(namespaces, cgroup, interrupts)
    };
    if let (Some(own), Ok(Side::Parent { .. })) = (own_time, &side) {
        enter_namespace(own.as_fd(), libc::CLONE_NEWTIME)
            .map_err(|errno| Error::step("clone", "own time namespace", errno))?;
    }
    side
}

fn refused(errno: Errno) -> Error {
    match errno {
        Errno::PERM => Error::invalid(
            "clone: new namespaces are not permitted; run as root, or allow user namespaces to ordinary users",
        ),
        errno => Error::step("clone", "new process", errno),
    }
}

/// Maps the ids of the new user namespace. Also maps the owners of the root's files, where the file system supports it.
fn map(plan: &Plan<'_>, started: &Started) -> Result<(), Error> {
    let namespaces = &plan.namespaces;
    let mapped = agent_host::launch::map_ids(started.pid, &namespaces.uid_map, &namespaces.gid_map);
    mapped.map_err(|error| {
        Error::invalid(format!(
            "--uid-map or --gid-map: {error}; wanted are ids that the user who runs the agent has, each once"
        ))
    })?;
    if let Some(container) = plan
        .container
        .as_ref()
        .filter(|container| container.maps_owners)
    {
        let user = agent_host::launch::user_namespace(started.pid)?;
        // Files of other file systems keep the host's owners, which the container sees as the overflow user (nobody).
        let _ = map_owners(container.root, user.as_fd());
    }
    started
        .channel
        .say(LauncherMessage::Mapped)
        .map_err(|errno| Error::step("map", "new process", errno))
}

impl Started {
    /// Kills the process, and returns the error of the step that failed before the kill, if one did.
    pub fn failure(self) -> Option<Error> {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let until = Instant::now() + wait::DYING;
        // A process that cannot die, for example because a file system hangs, reports nothing before the deadline.
        while wait::comes(self.channel.descriptor().ok()?, until) {
            match self.channel.hear().ok()? {
                ChildReport::Failed {
                    step,
                    errno,
                    subject,
                } => return Some(self.error(step, errno, subject)),
                ChildReport::Closed => return None,
                ChildReport::Terminal(_)
                | ChildReport::Fault
                | ChildReport::Born { .. }
                | ChildReport::Built => {}
            }
        }
        None
    }

    fn error(&self, step: u8, errno: Errno, subject: String) -> Error {
        let step = self.steps.get(usize::from(step));
        let name = step.map_or("launch", |step| step.name);
        Error::of_step(name, errno, subject)
    }

    /// Lets the process join the v1 cgroups of `entrances`, and execute the command.
    ///
    /// # Errors
    /// A step has failed since the clone, a signal came, or the deadline passed. The process is then killed and reaped.
    /// [`Error::status`] is docker's exit status for the error.
    pub fn go(
        mut self,
        entrances: &Entrances<'_>,
        interrupts: &mut dyn Interrupts,
    ) -> Result<Running, Error> {
        faults::point("go");
        let tasks: Vec<_> = entrances.v1.iter().map(OwnedFd::as_fd).collect();
        match self.channel.say_go(&tasks) {
            // The process has failed already. `hear_out` returns its error.
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(errno) => return Err(Error::step("go", "", errno)),
        }
        let terminal = self.hear_out(&mut *interrupts)?;
        if let Some(ahead) = self.ahead.take() {
            let entry = ahead.entry(self.pid, terminal)?;
            // The entry's descriptors keep the namespaces. The init process would only use up one of the container's
            // processes.
            wait::end(self.pidfd.as_fd());
            return entry.go(entrances, interrupts);
        }
        self.guard.disarm();
        Ok(Running {
            pid: self.pid,
            pidfd: self.pidfd,
            terminal,
        })
    }

    /// Reads the process's messages until the container is built or the command runs. Returns the container's terminal,
    /// where it has one.
    fn hear_out(&self, interrupts: &mut dyn Interrupts) -> Result<Option<OwnedFd>, Error> {
        const WHAT: &str = "the container's init process";
        let failed = |errno| Error::step("go", WHAT, errno);
        let mut wait = Wait::new(interrupts, WHAT, wait::PATIENCE);
        let mut terminal = None;
        loop {
            wait.until(self.channel.descriptor().map_err(failed)?, || {})?;
            match self.channel.hear().map_err(failed)? {
                ChildReport::Terminal(received) => terminal = Some(received),
                ChildReport::Fault => faults::die(),
                ChildReport::Failed {
                    step,
                    errno,
                    subject,
                } => return Err(self.error(step, errno, subject)),
                ChildReport::Born { .. } => {}
                ChildReport::Built => return Ok(terminal),
                ChildReport::Closed if self.ahead.is_some() => return Err(failed(Errno::CHILD)),
                ChildReport::Closed => return Ok(terminal),
            }
        }
    }
}
