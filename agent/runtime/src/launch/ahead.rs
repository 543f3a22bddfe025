//! Launches a container in another container's pid namespace.
//!
//! The init process only builds the container, and the processes of that namespace cannot see it. The command then
//! enters the container as `agent exec` does.

use std::os::fd::{AsFd as _, OwnedFd};

use agent_host::pinned::Pinned;
use oci_spec::runtime::Process;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::Pid;

use super::entry::{Entry, Streams};
use super::plan::namespaces::{Join, Namespaces};
use super::{Error, Stdio, terminal};

/// What is ahead when the container is built.
#[derive(Debug)]
pub(super) struct Ahead {
    pids: Join,
    /// Whether the container is among somebody else's users, who alone have rights over the pid namespace then.
    users_first: bool,
    process: Process,
    filters: Vec<agent_seccomp::FilterProgram>,
    /// None where they are a terminal of the container's.
    streams: Option<Streams>,
}

impl Ahead {
    /// With what the process that builds is to have as its streams.
    pub(super) fn new(
        pids: Join,
        namespaces: &Namespaces,
        process: &Process,
        filters: &[agent_seccomp::FilterProgram],
        stdio: Stdio,
    ) -> Result<(Stdio, Self), Error> {
        let again = |file: &OwnedFd| {
            fcntl_dupfd_cloexec(file, 3)
                .map_err(|errno| Error::step("stdio", "standard streams", errno))
        };
        let (given, streams) = match stdio {
            Stdio::Terminal => (Stdio::Terminal, None),
            Stdio::Files {
                stdin,
                stdout,
                stderr,
            } => {
                let given = Stdio::Files {
                    stdin: stdin.as_ref().map(again).transpose()?,
                    stdout: again(&stdout)?,
                    stderr: again(&stderr)?,
                };
                let streams = Streams {
                    input: stdin,
                    output: stdout,
                    errors: stderr,
                };
                (given, Some(streams))
            }
        };
        let ahead = Self {
            pids,
            users_first: namespaces.joins(libc::CLONE_NEWUSER),
            process: process.clone(),
            filters: filters.to_vec(),
            streams,
        };
        Ok((given, ahead))
    }

    /// The way into the container that the process `built` is in.
    pub(super) fn entry(self, built: Pid, controller: Option<OwnedFd>) -> Result<Entry, Error> {
        let built = Pinned::open(built.as_raw_nonzero().get())
            .ok_or_else(|| Error::step("join", "the container", Errno::SRCH))?;
        let (kinds, root) = agent_host::launch::surroundings(&built)?;
        let mut joins = Vec::new();
        for (namespace, kinds) in
            agent_host::launch::namespaces(&built, kinds & !libc::CLONE_NEWPID)?
        {
            joins.push(Join {
                namespace,
                kinds,
                subject: c"the container's namespaces".to_owned(),
            });
        }
        // The users' is the first of them, where it is one.
        joins.insert(usize::from(self.users_first), self.pids);
        let streams = match (self.streams, &controller) {
            (Some(streams), _) => streams,
            (None, Some(controller)) => terminal::streams(controller.as_fd())?,
            (None, None) => {
                return Err(Error::invalid("terminal: the container made none"));
            }
        };
        Ok(Entry {
            joins,
            root,
            process: self.process,
            filters: self.filters,
            streams,
            terminal: controller,
        })
    }
}
