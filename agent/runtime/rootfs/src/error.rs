//! The error of this crate.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why a root file system cannot be made.
#[allow(
    missing_docs,
    reason = "the messages document the variants and their fields"
)]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no {}: {wanted}", path.display())]
    Missing { path: PathBuf, wanted: &'static str },
    #[error("{} is not {wanted}", path.display())]
    Other { path: PathBuf, wanted: &'static str },
    #[error(
        "--bin {name}: there is no such program in any directory of PATH ({path}); install it, or name it by its path"
    )]
    NoProgram { name: String, path: String },
    #[error("--bin {}: there is no such file", path.display())]
    NoFile { path: PathBuf },
    #[error("--bin {}: not executable; wanted a program (chmod +x makes a file one)", path.display())]
    NotExecutable { path: PathBuf },
    #[error("--bin {}: neither an ELF program nor a script that begins with #!", path.display())]
    NotProgram { path: PathBuf },
    #[error("--bin {}: a script whose first line names no interpreter by its path", path.display())]
    NoInterpreter { path: PathBuf },
    #[error("{}: {what}; wanted a whole ELF file", path.display())]
    Elf { path: PathBuf, what: &'static str },
    #[error(
        "{name}, which {} needs, is in none of the directories where its loader looks: {searched}; install it",
        by.display()
    )]
    NoLibrary {
        name: String,
        by: PathBuf,
        searched: String,
    },
    #[error("{}: more than {most} {what}", path.display())]
    TooMany {
        path: PathBuf,
        what: &'static str,
        most: usize,
    },
    #[error("{}: {what}", path.display())]
    Costs { path: PathBuf, what: String },
    #[error("cannot {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A step of making the mount failed.
    #[error("cannot make the root file system: {step}{}", hint(*source))]
    Mount {
        step: &'static str,
        #[source]
        source: Errno,
    },
    #[error("interrupted by signal {signal} while waiting for the image to be unpacked")]
    Interrupted { signal: i32 },
    #[error("cannot charge the container for its image")]
    Charge(#[source] io::Error),
    /// The text of an error that another process had.
    #[error("{0}")]
    Said(String),
    #[error("--image {}: {what}", path.display())]
    Image { path: PathBuf, what: String },
    #[error("--image {}: {}: {what}", path.display(), entry.display())]
    Entry {
        path: PathBuf,
        /// The path as the archive names it.
        entry: PathBuf,
        what: String,
    },
}

/// Returns advice for the operator.
fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::NOSYS => " (it needs Linux 5.12 or newer)",
        Errno::PERM => " (it needs root, or a user namespace)",
        Errno::NODEV => " (this kernel lacks it: modprobe overlay)",
        _ => "",
    }
}

impl Error {
    /// Returns docker's exit status for the error.
    pub fn status(&self) -> u8 {
        match self {
            Self::NoProgram { .. } | Self::NoFile { .. } => 127,
            Self::NotExecutable { .. } | Self::NotProgram { .. } | Self::NoInterpreter { .. } => {
                126
            }
            Self::Interrupted { signal } => 128 + *signal as u8,
            _ => 125,
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }

    pub(super) fn mount(step: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::Mount { step, source }
    }
}
