//! A process that is found by its pid, and is known to be the same one while it is inspected.
//!
//! The kernel reuses the pid of a process that has ended. So a descriptor of the process is opened first. If the
//! process still runs afterwards, what was read from `/proc/PID` is of that process (pidfd_open(2)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process: its pid and a descriptor.
#[derive(Clone, Debug)]
pub struct Pinned {
    pid: Pid,
    descriptor: Arc<OwnedFd>,
}

impl Pinned {
    /// Opens the process that has this pid now; `None` where there is none.
    pub fn open(pid: i32) -> Option<Self> {
        let pid = Pid::from_raw(pid)?;
        let descriptor = Arc::new(pidfd_open(pid, PidfdFlags::empty()).ok()?);
        Some(Self { pid, descriptor })
    }

    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// The pid, as `/proc` writes it.
    pub fn number(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Checks that all that was read by the pid until now is of this process.
    ///
    /// # Errors
    /// ESRCH where the process has ended: another process may have the pid.
    pub fn check(&self) -> io::Result<()> {
        let mut ended = [PollFd::new(&self.descriptor, PollFlags::IN)];
        match rustix::io::retry_on_intr(|| poll(&mut ended, Some(&Timespec::default()))) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Errno::SRCH.into()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Pinned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_until_it_ends() {
        let mut child = std::process::Command::new("cat");
        let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pinned = Pinned::open(child.id().cast_signed()).unwrap();
        assert_eq!(pinned.number(), child.id());
        pinned.check().unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let error = pinned.check().unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::SRCH));
    }
}
