//! The standard streams of a command.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::io::fcntl_dupfd_cloexec;

use super::Error;

/// What the command has as descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio {
    /// Files of the launcher.
    Files {
        /// `None`: the container's own `/dev/null`.
        stdin: Option<OwnedFd>,
        /// The standard output.
        stdout: OwnedFd,
        /// The standard error.
        stderr: OwnedFd,
    },
    /// A terminal of the container's own, whose other side [`super::Running::terminal`] is.
    Terminal,
}

impl Stdio {
    /// With descriptors that are not among those that they become.
    pub(super) fn above(self) -> Result<Self, Error> {
        const FIRST_FREE: i32 = 3;
        let move_up = |file: OwnedFd| {
            if file.as_raw_fd() >= FIRST_FREE {
                return Ok(file);
            }
            fcntl_dupfd_cloexec(&file, FIRST_FREE)
                .map_err(|errno| Error::step("stdio", "standard streams", errno))
        };
        match self {
            Self::Terminal => Ok(Self::Terminal),
            Self::Files {
                stdin,
                stdout,
                stderr,
            } => Ok(Self::Files {
                stdin: stdin.map(move_up).transpose()?,
                stdout: move_up(stdout)?,
                stderr: move_up(stderr)?,
            }),
        }
    }
}
