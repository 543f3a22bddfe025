//! The error of a launch.

use std::borrow::Cow;
use std::io;

use rustix::io::Errno;

use super::child::{EXEC, NO_INTERPRETER, PIVOT};

/// An error that keeps a container from starting.
#[allow(
    missing_docs,
    reason = "the messages document the variants and their fields"
)]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{step}: {subject}: {source}{}", advice(step, source))]
    Step {
        step: &'static str,
        /// The path, mount or limit that the failed call was about.
        subject: String,
        source: io::Error,
    },
    #[error("{what}")]
    Invalid { what: String },
    #[error("{value:?}: has a zero byte in it, which no system call takes")]
    Zero { value: String },
    #[error(transparent)]
    Host(#[from] agent_host::launch::Error),
    #[error("{command}: not found in the container")]
    NotFound { command: String },
    #[error(
        "{command}: its interpreter or loader is not in the container (file and readelf -l tell which it names)"
    )]
    NoInterpreter { command: String },
    #[error("{command}: not executable: {source}")]
    NotExecutable { command: String, source: io::Error },
    #[error("interrupted by signal {signal} while waiting for {what}")]
    Interrupted {
        signal: i32,
        what: Cow<'static, str>,
    },
    #[error("waited {seconds} s for {what}, which neither made progress nor ended")]
    Late {
        what: Cow<'static, str>,
        seconds: u64,
    },
}

impl Error {
    /// Returns docker's exit status for this error.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Self::Step { .. }
            | Self::Invalid { .. }
            | Self::Zero { .. }
            | Self::Host(_)
            | Self::Late { .. } => 125,
            Self::Interrupted { signal, .. } => 128 + *signal as u8,
            Self::NotExecutable { .. } => 126,
            Self::NotFound { .. } | Self::NoInterpreter { .. } => 127,
        }
    }

    pub(super) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    /// Makes the error of a step that failed in the new process.
    pub(super) fn of_step(step: &'static str, errno: Errno, subject: String) -> Self {
        match (step, errno) {
            (EXEC, Errno::NOENT | Errno::NOTDIR) => Self::NotFound { command: subject },
            (EXEC, NO_INTERPRETER) => Self::NoInterpreter { command: subject },
            (EXEC, errno) => Self::NotExecutable {
                command: subject,
                source: errno.into(),
            },
            (_, Errno::INVAL) if subject == PIVOT => Self::invalid(
                "pivot_root: this host's root is an initramfs, which pivot_root(2) cannot leave; switch_root(8) to another one first, or use --chroot",
            ),
            (step, Errno::LOOP) => Self::invalid(format!(
                "{step}: {subject}: there is a symbolic link on the way to it in the root file system, which could lead elsewhere; make it a directory"
            )),
            (step, Errno::XDEV) => Self::invalid(format!(
                "{step}: {subject}: it leads out of the root file system; nothing was done there"
            )),
            (step, errno) => Self::step(step, subject, errno),
        }
    }

    pub(super) fn step(step: &'static str, subject: impl Into<String>, errno: Errno) -> Self {
        if errno == Errno::NOSYS {
            return Self::invalid(format!(
                "{step}: {}: this kernel lacks a system call for it; containers need Linux 5.12",
                subject.into()
            ));
        }
        Self::Step {
            step,
            subject: subject.into(),
            source: errno.into(),
        }
    }
}

/// Advice for failures that a user's flags can cause: the step, the error number, and the text.
const ADVICE: [(&str, Errno, &str); 13] = [
    (
        "join",
        Errno::INVAL,
        "wanted: a namespace of that type, as in ns:/run/netns/NAME",
    ),
    (
        "mount",
        Errno::NOENT,
        "--volume wants a file or directory of the host that exists",
    ),
    (
        "mount",
        Errno::ROFS,
        "the mount point does not exist, and the root file system is read-only; choose one that exists",
    ),
    (
        "mount",
        Errno::INVAL,
        "an option of --tmpfs that this kernel does not know, or a value that it does not take",
    ),
    (
        "mount",
        Errno::OVERFLOW,
        "the container's root makes it, and has no id on the host; map it too, with --uid-map 0:HOST:COUNT",
    ),
    (
        "sysctl",
        Errno::NOENT,
        "this kernel has no such setting; see --sysctl",
    ),
    (
        "sysctl",
        Errno::INVAL,
        "the setting does not take this value; see --sysctl",
    ),
    (
        "sysctl",
        Errno::NODEV,
        "another mount stands where the kernel's settings are; leave that out",
    ),
    (
        "interface",
        Errno::NOENT,
        "the container has no such interface, or that has no such setting; --net veth makes eth0; see --sysctl",
    ),
    (
        "interface",
        Errno::INVAL,
        "the setting does not take this value; see --sysctl",
    ),
    (
        "interface",
        Errno::NODEV,
        "another mount stands where the kernel's settings are; leave that out",
    ),
    ("workdir", Errno::NOTDIR, "--workdir wants a directory"),
    (
        "workdir",
        Errno::ROFS,
        "--workdir names a directory that does not exist, and the root file system is read-only",
    ),
];

fn advice(step: &str, source: &io::Error) -> String {
    let errno = Errno::from_io_error(source);
    let mut rows = ADVICE.iter();
    let row = rows.find(|(of, on, _)| *of == step && Some(*on) == errno);
    row.map_or_else(String::new, |(_, _, what)| format!("; {what}"))
}
