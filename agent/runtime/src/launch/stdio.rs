//! The standard streams of a command.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::io::fcntl_dupfd_cloexec;

use super::Error;

/// Descriptors 0, 1 and 2 of the command.
#[derive(Debug)]
pub enum Stdio {
    /// Files of the launcher.
    Files {
        /// `None` stands for the container's own `/dev/null`.
        stdin: Option<OwnedFd>,
        /// The standard output.
        stdout: OwnedFd,
        /// The standard error.
        stderr: OwnedFd,
    },
    /// A terminal of the container. [`super::Running::terminal`] is its controller.
    Terminal,
}

impl Stdio {
    /// Moves files with the numbers 0, 1 or 2 to higher ones. The new process can then make its own 0, 1 and 2 in any
    /// order.
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
