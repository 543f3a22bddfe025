//! The error of a supervisor.

use std::io;

use agent_host::rootless;

use crate::state::LockHolder;
use crate::{cgroup, launch, spec, state};

/// Why a container could not be run, or a command about one failed.
#[allow(
    missing_docs,
    reason = "the messages document the variants and their fields"
)]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Spec(#[from] spec::Error),
    #[error(transparent)]
    Root(#[from] agent_rootfs::Error),
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    #[error(transparent)]
    Seccomp(#[from] agent_seccomp::Error),
    #[error(transparent)]
    Network(#[from] agent_network::Error),
    #[error(transparent)]
    Rootless(#[from] rootless::Error),
    #[error(transparent)]
    Launch(#[from] launch::Error),
    #[error("-i with -t needs a terminal as standard input, and this is none; leave -t out")]
    NoTerminal,
    #[error("-i: standard input is a directory; redirect it from a file, or leave -i out")]
    DirectoryAsInput,
    #[error("cannot start a supervisor")]
    Detach(#[source] io::Error),
    /// The error of a supervisor, as it was reported to the caller.
    #[error("{why}")]
    Reported { status: u8, why: String },
    #[error("the supervisor of the container was killed before the container ran")]
    SupervisorKilled,
    #[error("cannot set up the container's standard streams")]
    Streams(#[source] io::Error),
    #[error("cannot make the log of the container in {}", path.display())]
    Log {
        path: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot wait for the container")]
    Wait(#[source] io::Error),
    #[error(
        "the supervisor of the container {name:?} was killed, and what was left of the container has been ended and removed; \
         how it ended is not known"
    )]
    Abandoned { name: String },
    #[error(
        "the container {name:?} is not running: agent wait {name} prints how it ended, agent rm {name} removes it"
    )]
    NotRunning { name: String },
    #[error("the container {name:?} runs: agent stop {name} ends it, agent rm -f {name} kills it")]
    StillRunning { name: String },
    #[error(
        "the init process of the container {name:?} has not ended {seconds} s after it was killed: it waits in the kernel, or its cgroup is frozen"
    )]
    Hangs { name: String, seconds: u64 },
    #[error(
        "waited {seconds} s for the container {name:?} to be made by its supervisor: {supervisor}; agent rm -f {name} \
         ends it"
    )]
    Creating {
        name: String,
        seconds: u64,
        supervisor: LockHolder,
    },
    #[error(
        "waited {seconds} s for the supervisor of the container {name:?} to clean up: {supervisor}"
    )]
    Supervisor {
        name: String,
        seconds: u64,
        supervisor: LockHolder,
    },
    #[error("cannot signal the container {name:?}")]
    Signal {
        name: String,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Returns docker's exit status: 127 where the command is not found, 126 where it cannot be executed, and 128 plus
    /// its number after a signal. Otherwise 125.
    pub fn status(&self) -> u8 {
        match self {
            Self::Launch(error) => error.status(),
            Self::Root(error) => error.status(),
            Self::Reported { status, .. } => *status,
            _ => 125,
        }
    }
}
