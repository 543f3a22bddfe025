//! Why there is no verdict.

use std::io;
use std::path::PathBuf;

use agent_engines::intent;
use agent_runtime::{cgroup, spec, supervise};

/// Why a verification ends without a report.
#[allow(
    missing_docs,
    reason = "the messages document the variants and their fields"
)]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's files cannot be read.
    #[error(transparent)]
    Host(#[from] agent_host::Error),
    /// The flags of the workload contradict each other, or name something that is not there.
    #[error(transparent)]
    Flags(#[from] spec::Error),
    /// A flag asks for a limit that no kernel takes.
    #[error(transparent)]
    Limit(#[from] cgroup::Error),
    /// `--expect` cannot be parsed.
    #[error(transparent)]
    Expect(intent::Error),
    /// The command line has a command and no limit.
    #[error("no limit to judge: give at least one, as --memory 150M, before the command")]
    NoLimit,
    /// `--weights` is given with a limit of another kind.
    #[error("--weights judges weights alone; verify {flag} in a run of its own")]
    BesideWeights {
        /// The flag of the other limit.
        flag: String,
    },
    /// The subject has no limit, and no source intends one.
    #[error("{name} has no limit, and nobody says that it should: --expect memory=150M names one")]
    Unlimited {
        /// The name of the subject.
        name: String,
    },
    /// The agent cannot make a supervisor.
    #[error(transparent)]
    Supervise(#[from] supervise::Error),
    /// The supervisor could not launch the workload.
    #[error("{why}")]
    Launch {
        /// The exit status that docker gives this failure.
        status: u8,
        /// The supervisor's message.
        why: String,
    },
    /// The socket of the supervisor failed.
    #[error("cannot talk to the supervisor of the workload")]
    Talk(#[from] io::Error),
    /// The supervisor ended without a message.
    #[error("the supervisor of the workload was killed")]
    Killed,
    /// Another process removed the cgroup.
    #[error("the cgroup {cgroup} was removed during the run: no verdict")]
    Vanished {
        /// The path of the cgroup.
        cgroup: String,
    },
    /// The user pressed Ctrl-C.
    #[error("interrupted: no verdict")]
    Interrupted,
    /// The suite's program is not installed.
    #[error("--suite needs stress-ng, which is not in PATH: install the package stress-ng")]
    NoStress,
    /// The suite cannot make its directory on a disk.
    #[error("cannot make {}", path.display())]
    Scratch {
        /// The path of the directory.
        path: PathBuf,
        /// The error of mkdir(2).
        source: io::Error,
    },
}

impl Error {
    /// Tells whether the arguments are wrong, as opposed to an attempt that failed.
    #[must_use]
    pub const fn is_misuse(&self) -> bool {
        matches!(
            self,
            Self::Flags(_)
                | Self::Limit(_)
                | Self::Expect(_)
                | Self::NoLimit
                | Self::BesideWeights { .. }
        )
    }
}
