//! The code of the new process between clone and exec: a table of steps, each of a few system calls. Nothing here
//! allocates.

mod enter;
mod execute;
mod hide;
mod identity;
mod mount;
mod reaper;
mod root;
mod settings;
mod terminal;

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use agent_host::faults;
use agent_sys::forget::Memory;
use agent_sys::last::{Last, finish};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use rustix::process::{Signal, set_parent_process_death_signal};

pub(super) use self::execute::NO_INTERPRETER;
use super::channel::Channel;
use super::own_mounts::OwnMounts;
use super::place::Within;
use super::plan::{ContainerPlan, Plan};

/// The error of a failed step, and its subject.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure<'a> {
    errno: Errno,
    subject: &'a CStr,
}

type Done<'a> = Result<(), Failure<'a>>;

/// Adds the subject to the error of a failed system call.
trait On<T> {
    fn on(self, subject: &CStr) -> Result<T, Failure<'_>>;
}

impl<T> On<T> for Result<T, Errno> {
    fn on(self, subject: &CStr) -> Result<T, Failure<'_>> {
        self.map_err(|errno| Failure { errno, subject })
    }
}

impl<T> On<T> for std::io::Result<T> {
    fn on(self, subject: &CStr) -> Result<T, Failure<'_>> {
        self.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
            .on(subject)
    }
}

/// A step between clone and exec.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The name of the step in errors and fault points.
    pub name: &'static str,
    run: for<'a> fn(&mut Child<'a>) -> Done<'a>,
}

impl Step {
    const fn new(name: &'static str, run: for<'a> fn(&mut Child<'a>) -> Done<'a>) -> Self {
        Self { name, run }
    }
}

/// The steps of a container's init process.
pub(super) const FIRST: [Step; 25] = [
    Step::new("tie", tie),
    Step::new("memory", reaper::look),
    Step::new("map", identity::become_root),
    Step::new("session", session),
    Step::new("hostname", host_name),
    Step::new("network", network),
    Step::new("propagation", root::be_private),
    Step::new("root", root::attach),
    Step::new("mount", mount::all),
    Step::new("terminal", terminal::make),
    Step::new("sysctl", settings::early),
    Step::new("mask", hide::masked),
    Step::new("read-only", hide::read_only),
    Step::new("wait", wait),
    Step::new("interface", settings::late),
    Step::new("cgroup", mount::late),
    Step::new("leave", root::enter),
    Step::new("stdio", terminal::connect),
    Step::new("workdir", execute::enter_directory),
    Step::new("ulimit", identity::limit),
    Step::new("user", identity::become_user),
    Step::new("descriptors", execute::leave_descriptors),
    Step::new("init", reaper::split),
    Step::new("privileges", identity::give_up),
    Step::new(EXEC, execute::execute),
];

/// The steps of a process that only builds the container: all steps before those that prepare the command.
pub(super) fn building() -> &'static [Step] {
    const COMMAND: &str = "stdio";
    let end = FIRST.iter().position(|step| step.name == COMMAND);
    FIRST.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// The subject of a failed pivot_root(2).
pub(super) const PIVOT: &str = "pivot_root";

/// The steps of a process that enters a container. The copy, which the container can see, takes those after `fork`.
pub(super) const ENTER: [Step; 17] = [
    Step::new("tie", tie),
    Step::new("oom-score-adj", enter::oom_score),
    Step::new("cgroup", enter::cgroups),
    Step::new("join", enter::join),
    Step::new("root", root::join),
    Step::new("keys", enter::keys),
    Step::new("stdio", enter::read_nothing),
    Step::new("terminal", enter::own_terminal),
    Step::new("workdir", execute::enter_directory),
    Step::new("ulimit", identity::limit),
    Step::new("user", identity::become_user),
    Step::new("descriptors", execute::leave_descriptors),
    Step::new("privileges", identity::give_up),
    Step::new("fork", enter::fork),
    Step::new("session", enter::lead),
    Step::new("tie-again", enter::tie),
    Step::new(EXEC, execute::execute),
];

/// The index of the fork, and of the first step after all namespaces are joined.
const FORK: usize = 13;
const JOINED: usize = 4;

/// The steps of [`ENTER`] with an early fork, which the guard `entry` prevents. Only tests use them.
pub(super) const ENTER_EARLY: [Step; 17] = {
    let mut steps = ENTER;
    let mut at = FORK;
    while at > JOINED {
        steps[at] = steps[at - 1];
        at -= 1;
    }
    steps[JOINED] = ENTER[FORK];
    steps
};

/// The name of the step that executes the command. Its failure has an exit status of its own (126 or 127).
pub(super) const EXEC: &str = "exec";

/// The state that the steps share.
pub(super) struct Child<'a> {
    last: &'a Last,
    plan: &'a Plan<'a>,
    container: Option<&'a ContainerPlan<'a>>,
    channel: Channel,
    /// The container's root.
    root: Option<BorrowedFd<'a>>,
    /// The container's mounts, as long as the host's mounts can be reached.
    own: Option<OwnMounts>,
    /// The container's own `/proc`, as this process mounted it.
    proc: Option<OwnedFd>,
    /// The mounts at `/proc` and `/sys`.
    kernels: [Option<OwnedFd>; hide::KERNELS_COUNT],
    /// The directories with the settings of interfaces, where the order sets some of them.
    interfaces: [Option<OwnedFd>; settings::INTERFACES_COUNT],
    dev: Option<OwnedFd>,
    terminals: Option<OwnedFd>,
    /// The directory of cgroup hierarchies.
    hierarchies: Option<OwnedFd>,
    /// The container's side of its terminal.
    terminal: Option<OwnedFd>,
    /// The memory that a reaper gives back to the kernel ([`agent_sys::forget`]).
    memory: Option<Memory>,
}

/// Takes the steps in order, and never returns.
pub(super) fn run(plan: &Plan<'_>, steps: &'static [Step], channel: Channel) -> ! {
    finish(|last| {
        let mut child = Child::new(plan, channel, last);
        for (index, step) in steps.iter().enumerate() {
            if plan.fault == Some(index) {
                child.channel.fault();
            }
            if let Err(failure) = (step.run)(&mut child) {
                child
                    .channel
                    .fail(index as u8, failure.errno, failure.subject);
                return FAILED;
            }
            if plan.hold.as_deref() == Some(step.name) {
                faults::hold();
            }
        }
        // Only the steps of [`building`] end here. The last step of the other tables executes the command.
        child.channel.built();
        FAILED
    })
}

/// The exit status of a process that did not execute the command. The launcher does not use it, because the process
/// reports the failure.
const FAILED: u8 = 125;

impl<'a> Child<'a> {
    fn new(plan: &'a Plan<'a>, channel: Channel, last: &'a Last) -> Self {
        Self {
            last,
            plan,
            container: plan.container.as_ref(),
            channel,
            root: None,
            own: None,
            proc: None,
            kernels: [const { None }; hide::KERNELS_COUNT],
            interfaces: [const { None }; settings::INTERFACES_COUNT],
            dev: None,
            terminals: None,
            hierarchies: None,
            terminal: None,
            memory: None,
        }
    }

    /// Closes all descriptors that the steps have opened, except the channel.
    fn drop_descriptors(&mut self) {
        (self.root, self.proc, self.dev) = (None, None, None);
        self.kernels = [const { None }; hide::KERNELS_COUNT];
        self.interfaces = [const { None }; settings::INTERFACES_COUNT];
        (self.terminals, self.hierarchies, self.terminal) = (None, None, None);
    }

    fn container(&self) -> Result<&'a ContainerPlan<'a>, Failure<'a>> {
        self.container.ok_or(Errno::INVAL).on(c"container")
    }

    /// Returns the directory in which the container's paths are looked up.
    fn root(&self) -> Result<Within<'_>, Failure<'a>> {
        let root = self.root.ok_or(Errno::INVAL).on(c"root")?;
        Ok(Within::new(root, self.own.as_ref()))
    }

    /// Attaches a detached mount, and records it as the container's own.
    fn attach(&self, mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(mount, c"", place, c"", flags)?;
        self.own.as_ref().map_or(Ok(()), |own| own.add(mount))
    }
}

/// Asks the kernel to kill this process when the launcher dies.
fn tie<'a>(_: &mut Child<'a>) -> Done<'a> {
    set_parent_process_death_signal(Some(Signal::KILL)).on(c"parent's death")
}

/// Starts a new session, so that the host's terminal cannot send input or signals to the process. Joins an empty
/// session keyring, so that the process has none of the host's keys.
fn session<'a>(_: &mut Child<'a>) -> Done<'a> {
    rustix::process::setsid().on(c"session")?;
    leave_keys()
}

/// Joins a new, empty session keyring.
fn leave_keys<'a>() -> Done<'a> {
    match agent_sys::launch::join_new_keyring() {
        // A kernel without keys (ENOSYS) has none of the host's either.
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno).on(c"session keyring"),
    }
}

fn host_name<'a>(child: &mut Child<'a>) -> Done<'a> {
    let container = child.container()?;
    if let Some(name) = &container.host_name {
        rustix::system::sethostname(name.to_bytes()).on(name)?;
    }
    if let Some(name) = &container.domain_name {
        rustix::system::setdomainname(name.to_bytes()).on(name)?;
    }
    Ok(())
}

fn network<'a>(child: &mut Child<'a>) -> Done<'a> {
    unshare(child, libc::CLONE_NEWNET).on(c"network namespace")?;
    if child.plan.namespaces.has(libc::CLONE_NEWNET) {
        agent_sys::interface::loopback_up().on(c"lo")?;
    }
    Ok(())
}

/// Waits until the cgroups and the network are ready. The process joins its v1 cgroups itself: when a thread writes
/// `0`, the kernel takes no lock that waits for all CPUs (`cgroup_attach_lock`, kernel/cgroup/cgroup.c).
fn wait<'a>(child: &mut Child<'a>) -> Done<'a> {
    let mut joined = Ok(());
    let go = child.channel.wait_for_go(|tasks| {
        joined = rustix::io::write(&tasks, b"0").map(drop);
        joined
    });
    joined.on(c"tasks, of a cgroup of v1")?;
    go.on(c"launcher")?;
    unshare(child, libc::CLONE_NEWCGROUP).on(c"cgroup namespace")
}

/// Makes a namespace of this type, where the plan leaves that to the new process.
fn unshare(child: &Child<'_>, kind: i32) -> Result<(), Errno> {
    let namespaces = &child.plan.namespaces;
    match namespaces.new & namespaces.unshared & kind {
        0 => Ok(()),
        kind => agent_sys::launch::unshare(kind),
    }
}
