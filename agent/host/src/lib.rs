//! The host as the kernel reports it. This crate alone opens `/proc`, `/sys` and the files of cgroups. Every reader
//! takes the root path (`/`), so that a test can pass a directory of its own.

pub mod cgroup;
pub mod cgroup_files;
pub mod cgroup_format;
pub mod changes;
pub mod connections;
pub mod control;
pub mod descriptors;
pub mod devices;
pub mod faults;
pub mod fdinfo;
mod file;
pub mod filesystems;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod held;
pub mod hierarchy;
pub mod hits;
pub mod inside;
pub mod interrupts;
pub mod kept;
pub mod launch;
pub mod layer;
pub mod machine;
pub mod membership;
mod meminfo;
pub mod mount;
pub mod namespace;
pub mod network;
pub mod open_files;
pub mod owner;
pub mod path;
pub mod peer;
pub mod pinned;
pub mod population;
pub mod process;
pub mod reading;
pub mod regular;
pub mod rootless;
pub mod status;
pub mod subordinate;
pub mod system;
pub mod usage;
pub mod user_directory;
pub mod visible_tasks;
pub mod walk;
pub mod writes;

use std::io;
use std::path::PathBuf;

/// The number of bytes of a line that an error shows.
pub const SHOWN_BYTES: usize = 128;

/// Why a file of the host cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ENOENT, ENODEV or ESRCH: the cgroup or process has ended, or it has no such file.
    #[error("{} is gone", path.display())]
    Gone { path: PathBuf },
    /// The file's text is not in the format that this crate knows.
    #[error("{}: found {line:?}, wanted {wanted}", path.display())]
    Malformed {
        path: PathBuf,
        /// The first [`SHOWN_BYTES`] bytes of the line.
        line: String,
        wanted: &'static str,
    },
    #[error("cannot read {}; the agent needs root, /proc and /sys", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Neither cgroup v1 nor v2 is mounted.
    #[error("{} lists no cgroup file system; mount cgroup2 at /sys/fs/cgroup", path.display())]
    NoCgroups { path: PathBuf },
}

impl Error {
    fn new(path: PathBuf, source: io::Error) -> Self {
        use rustix::io::Errno;
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT | Errno::NODEV | Errno::SRCH) => Self::Gone { path },
            _ => Self::Io { path, source },
        }
    }

    fn malformed(path: PathBuf, line: &[u8], wanted: &'static str) -> Self {
        let shown = &line[..line.len().min(SHOWN_BYTES)];
        let line = String::from_utf8_lossy(shown).into_owned();
        Self::Malformed { path, line, wanted }
    }
}
