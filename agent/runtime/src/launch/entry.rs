//! The launcher's side of a process that enters a running container.
//!
//! A process in the container's pid namespace can see each process that joins it. With CAP_SYS_PTRACE, it can take over
//! the memory and the descriptors of that process (CVE-2016-9962). So two processes enter:
//!
//! - The *stage* is this program, executed again with an empty environment and no arguments. It reads what it needs
//!   from a file in memory, and does all the work (`stage.rs`). It stays outside the pid namespace, so no process there
//!   sees it.
//! - Its *copy*, forked last, is in the pid namespace. It has the command's root, cgroups, ids, capabilities, filter
//!   and standard streams, and no other descriptor. Its memory holds only what the command is given anyway. It executes
//!   the command at once.
//!
//! The launcher waits until the stage ends, which the kernel delays until the copy executes the command. It reads the
//! reports of both from memory that it shares with them.

mod filters;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use agent_host::faults::{self, guarded};
use agent_host::interrupts::Interrupts;
use agent_sys::entry::{Failed, Shared, execute_with};
use agent_sys::launch::{Kin, Side, Strings, clone, exit};
use agent_sys::start::own_executable;
use oci_spec::runtime::Process;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, set_parent_process_death_signal,
    setsid, waitid,
};

use super::plan::command::Command;
use super::plan::identity::ProcessIdentity;
use super::plan::namespaces::Join;
use super::stage::{self, Message};
use super::wait::{self, KillGuard, Wait};
use super::{Error, Running, refused};

const WHAT: &str = "the process that enters the container";

fn step(source: io::Error) -> Error {
    Error::Step {
        step: "clone",
        subject: WHAT.to_owned(),
        source,
    }
}

/// What a process needs to enter a container, and the command that it executes there.
#[derive(Debug)]
pub(super) struct Entry {
    /// The namespaces to join, in this order. The command runs in the pid namespace that is joined last.
    pub joins: Vec<Join>,
    pub root: OwnedFd,
    pub process: Process,
    pub filters: Vec<agent_seccomp::FilterProgram>,
    pub streams: Streams,
    /// The controller of the terminal, where the streams are a terminal.
    pub terminal: Option<OwnedFd>,
}

/// Descriptors 0, 1 and 2 of the command. Their numbers are above 2 until then.
#[derive(Debug)]
pub(super) struct Streams {
    /// None where the command has no standard input.
    pub input: Option<OwnedFd>,
    pub output: OwnedFd,
    pub errors: OwnedFd,
}

/// Descriptors by which a process joins the container's cgroups.
#[derive(Debug)]
pub struct Entrances<'a> {
    /// The directory in v2, for `CLONE_INTO_CGROUP`.
    pub v2: Option<BorrowedFd<'a>>,
    /// The files `tasks` of v1, to which a process writes to join.
    pub v1: Vec<OwnedFd>,
}

impl Entry {
    /// Runs the command.
    ///
    /// # Errors
    /// A step failed, a signal came, or the deadline passed. No process is left then, except one in a frozen cgroup,
    /// which dies when the cgroup is thawed.
    pub(super) fn go(
        self,
        entrances: &Entrances<'_>,
        interrupts: &mut dyn Interrupts,
    ) -> Result<Running, Error> {
        faults::point("clone");
        // The stage prepares both again, and could not report an error in them.
        ProcessIdentity::new(&self.process)?;
        Command::new(&self.process, "/")?;
        let (file, shared) = share(&self.message(entrances)?).map_err(step)?;
        let pidfd = self.start(entrances, file.as_fd(), &shared)?;
        faults::point("cloned");
        let stage = KillGuard::new(pidfd.try_clone().map_err(step)?);
        let look = || {
            if shared.is_fault() {
                faults::die();
            }
        };
        let waited = Wait::new(interrupts, WHAT, wait::PATIENCE).until(pidfd.as_fd(), look);
        // A stage that was killed makes no copy any more, so `copy` below finds the only one.
        drop(stage);
        let ended = waited.and_then(|()| match shared.failed() {
            Some(failed) => Err(self.error(&failed)),
            None => Ok(()),
        });
        match (ended, copy(&shared)) {
            (Ok(()), Some((pid, pidfd))) => Ok(Running {
                pid,
                pidfd,
                terminal: self.terminal,
            }),
            (ended, copy) => {
                if let Some((_, pidfd)) = copy {
                    wait::end(pidfd.as_fd());
                }
                ended?;
                Err(Error::invalid(format!(
                    "{WHAT} was killed on its way; see whether the container's memory limit has room for it"
                )))
            }
        }
    }

    /// Clones the stage and executes it with its descriptors. Returns its pidfd.
    fn start(
        &self,
        entrances: &Entrances<'_>,
        message: BorrowedFd<'_>,
        shared: &Shared,
    ) -> Result<OwnedFd, Error> {
        let failed = |errno: Errno| step(errno.into());
        let given = self.given(entrances, message);
        let above = |file: BorrowedFd<'_>| fcntl_dupfd_cloexec(file, given.len() as i32);
        let program = own_executable().map_err(failed)?;
        let program = above(program.as_fd()).map_err(failed)?;
        let given: Result<Vec<OwnedFd>, Errno> = given.iter().map(|file| above(*file)).collect();
        let given = given.map_err(failed)?;
        let given: Vec<BorrowedFd<'_>> = given.iter().map(AsFd::as_fd).collect();
        let (arguments, environment) = (stage::arguments(), environment());
        match clone(0, entrances.v2, Kin::Child).map_err(refused)? {
            Side::Child => {
                let report = |errno| shared.fail(stage::EXECUTED, errno, c"/proc/self/exe");
                let tied = set_parent_process_death_signal(Some(Signal::KILL));
                // In a session of its own, the stage gets no input and no signals from the host's terminal.
                if let Err(errno) = tied.and_then(|()| setsid()) {
                    report(errno);
                    exit(1)
                }
                execute_with(&given, program.as_fd(), &arguments, &environment, report)
            }
            Side::Parent { pidfd, .. } => Ok(pidfd),
        }
    }

    /// Returns the stage's descriptors in the order in which it expects them.
    fn given<'a>(
        &'a self,
        entrances: &'a Entrances<'_>,
        message: BorrowedFd<'a>,
    ) -> Vec<BorrowedFd<'a>> {
        let Streams {
            input,
            output,
            errors,
        } = &self.streams;
        // A command without standard input gets a placeholder here, which the step `stdio` of the stage replaces.
        let input = input.as_ref().unwrap_or(output);
        let mut given = vec![
            input.as_fd(),
            output.as_fd(),
            errors.as_fd(),
            message,
            self.root.as_fd(),
        ];
        given.extend(self.joins.iter().map(|join| join.namespace.as_fd()));
        given.extend(entrances.v1.iter().map(AsFd::as_fd));
        if !guarded(faults::Guard::Entry) {
            // A process that is forked early has this descriptor too. The test shows the attack through it.
            given.extend(entrances.v2);
        }
        given
    }

    fn error(&self, failed: &Failed) -> Error {
        let errno = Errno::from_raw_os_error(failed.errno);
        let subject = String::from_utf8_lossy(&failed.subject).into_owned();
        let name = stage::name(failed.step);
        match (name, errno) {
            ("join", errno) => {
                let index = subject.parse::<usize>().ok();
                let join = index.and_then(|index| self.joins.get(index));
                let subject = join.map_or(subject.clone(), |join| {
                    join.subject.to_string_lossy().into_owned()
                });
                Error::of_step(name, errno, subject)
            }
            ("oom-score-adj", errno) => Error::invalid(format!(
                "--oom-score-adj {subject}: {}; below that of this command it needs CAP_SYS_RESOURCE",
                io::Error::from(errno)
            )),
            ("fork", Errno::AGAIN) => Error::invalid(
                "the container has no room for the command: wanted are two more processes below its --pids-limit, and below \
                 the ulimit nproc of the command's user, one of them for a moment",
            ),
            _ => Error::of_step(name, errno, subject),
        }
    }

    fn message(&self, entrances: &Entrances<'_>) -> Result<Message, Error> {
        let has_terminal = self.terminal.is_some();
        let (filters, late) = filters::split(&self.filters, &self.process, has_terminal)?;
        Ok(Message {
            process: self.process.clone(),
            joins: self.joins.iter().map(|join| join.kinds).collect(),
            cgroups: entrances.v1.len(),
            terminal: has_terminal,
            reads_nothing: self.streams.input.is_none(),
            filters,
            late,
            fault: faults::wanted().and_then(|wanted| stage::step(&wanted)),
            hold: faults::held(),
            guarded: guarded(faults::Guard::Entry),
        })
    }
}

/// Returns the environment of the stage. It is empty, because the stage's copy has the same memory. Only tests pass on
/// the host's variables.
fn environment() -> Strings {
    if guarded(faults::Guard::Entry) {
        return Strings::new(Vec::new());
    }
    use std::os::unix::ffi::OsStringExt as _;
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let (mut entry, value) = (name.into_vec(), value.into_vec());
        entry.push(b'=');
        entry.extend(value);
        CString::new(entry).ok()
    });
    Strings::new(variables.collect())
}

/// Makes a file in memory with the message. Its first bytes are memory that the launcher, the stage and its copy share.
fn share(message: &Message) -> io::Result<(OwnedFd, Shared)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create(c"entry", flags)?);
    let message = serde_json::to_vec(message)?;
    file.write_all_at(&message, Shared::BYTES as u64)?;
    // The seals fix the size: an access to a mapping raises SIGBUS where the file has become shorter.
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let shared = Shared::map(file.as_fd())?;
    shared.mark_own_death()?;
    Ok((file.into(), shared))
}

/// Finds the copy, if there is one. The number in the shared memory counts only if it is that of a child of this
/// process.
fn copy(shared: &Shared) -> Option<(Pid, OwnedFd)> {
    let pid = Pid::from_raw(shared.born()?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd.as_fd()), options).ok()?;
    Some((pid, pidfd))
}
