//! Launches a container in another container's pid namespace.
//!
//! The init process only builds the container, outside that pid namespace, where the processes in it cannot see it. The
//! command then enters the container as `agent exec` does.

use std::os::fd::{AsFd as _, OwnedFd};

use agent_host::pinned::Pinned;
use oci_spec::runtime::Process;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::Pid;

use super::entry::{Entry, Streams};
use super::plan::namespaces::{Join, Namespaces};
use super::{Error, Stdio, terminal};

/// What the launcher needs for the entry of the command once the container is built.
#[derive(Debug)]
pub(super) struct Ahead {
    pids: Join,
    /// Whether the container joins another container's user namespace. Only a process in that one then has rights over
    /// the pid namespace.
    users_first: bool,
    process: Process,
    filters: Vec<agent_seccomp::FilterProgram>,
    /// None where the streams are a terminal of the container.
    streams: Option<Streams>,
}

impl Ahead {
    /// Returns the streams of the process that builds the container, and what is needed for the entry. Both have
    /// descriptors of the same open files.
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

    /// Returns the entry into the container that the process `built` has built. `controller` is the controller of its
    /// terminal.
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
        // A user namespace that is joined comes first, and the pid namespace follows it.
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
