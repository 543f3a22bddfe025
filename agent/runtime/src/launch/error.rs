//! Why a container did not start.

use std::borrow::Cow;
use std::io;

use rustix::io::Errno;

use super::child::{EXEC, NO_INTERPRETER, PIVOT};

/// Why a container did not start.
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
        /// The path, mount or limit it was about.
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
    #[error("waited {seconds} s for {what}, which neither got on nor ended")]
    Late {
        what: Cow<'static, str>,
        seconds: u64,
    },
}

impl Error {
    /// The exit status that docker gives it.
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

    /// Of a step of the new process.
    pub(super) fn of_step(step: &'static str, errno: Errno, subject: String) -> Self {
        match (step, errno) {
            (EXEC, Errno::NOENT | Errno::NOTDIR) => Self::NotFound { command: subject },
            (EXEC, NO_INTERPRETER) => Self::NoInterpreter { command: subject },
            (EXEC, errno) => Self::NotExecutable {
                command: subject,
                source: errno.into(),
            },
            (_, Errno::INVAL) if subject == PIVOT => Self::invalid(
                "pivot_root: this host's root is an initramfs, which the kernel does not let go of; switch_root(8) to another first, or use --chroot",
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

/// What to do about the failures that a person's flags lead to.
const ADVICE: [(&str, Errno, &str); 13] = [
    (
        "join",
        Errno::INVAL,
        "wanted: a namespace of that type, as in ns:/run/netns/NAME",
    ),
    (
        "mount",
        Errno::NOENT,
        "--volume wants a file or directory of the host that is there",
    ),
    (
        "mount",
        Errno::ROFS,
        "its place cannot be made in a root file system that is read-only; choose one that is there",
    ),
    (
        "mount",
        Errno::INVAL,
        "an option of --tmpfs that this kernel does not know, or a value that it does not take",
    ),
    (
        "mount",
        Errno::OVERFLOW,
        "it is made by root inside; map that too, with --uid-map 0:HOST:COUNT",
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
        "--workdir names none that is there, and the root file system is read-only",
    ),
];

fn advice(step: &str, source: &io::Error) -> String {
    let errno = Errno::from_io_error(source);
    let mut rows = ADVICE.iter();
    let row = rows.find(|(of, on, _)| *of == step && Some(*on) == errno);
    row.map_or_else(String::new, |(_, _, what)| format!("; {what}"))
}
