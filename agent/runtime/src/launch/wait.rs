//! Waits for a launched process until it sends a message or ends, a signal comes, or a deadline passes.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use agent_host::faults;
use agent_host::interrupts::Interrupts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::Error;

/// How long a launch may take. A launch that takes longer has a cause that a person has to look at.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a killed process may take to end.
pub(super) const DYING: Duration = Duration::from_secs(2);

/// The time between two calls of `look` while a test injects faults.
const LOOK: Duration = Duration::from_millis(2);

/// A wait with a deadline.
pub(super) struct Wait<'a> {
    interrupts: &'a mut dyn Interrupts,
    patience: Duration,
    deadline: Instant,
    what: Cow<'static, str>,
}

impl<'a> Wait<'a> {
    /// Begins to wait for `what`, for at most `patience`.
    pub(super) fn new(
        interrupts: &'a mut dyn Interrupts,
        what: impl Into<Cow<'static, str>>,
        patience: Duration,
    ) -> Self {
        Self {
            interrupts,
            patience,
            deadline: Instant::now() + patience,
            what: what.into(),
        }
    }

    /// Returns once `descriptor` is readable or hung up. A pidfd is readable when its process has ended. Calls `look`
    /// while it waits, through which a test injects faults.
    ///
    /// # Errors
    /// A signal that ends the wait has come, or the deadline has passed.
    pub(super) fn until(
        &mut self,
        descriptor: BorrowedFd<'_>,
        mut look: impl FnMut(),
    ) -> Result<(), Error> {
        let failed = {
            let what = self.what.clone();
            move |errno: Errno| Error::step("wait", what.clone(), errno)
        };
        let looks = faults::wanted().is_some();
        loop {
            let mut left = self.deadline.saturating_duration_since(Instant::now());
            let is_late = left.is_zero();
            if looks {
                left = left.min(LOOK);
            }
            let left = Timespec::try_from(left).map_err(|_| failed(Errno::INVAL))?;
            let mut waited = [
                PollFd::from_borrowed_fd(descriptor, PollFlags::IN),
                PollFd::from_borrowed_fd(self.interrupts.descriptor(), PollFlags::IN),
            ];
            match poll(&mut waited, Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let [ready, interrupted] = waited.map(|it| !it.revents().is_empty());
            if ready {
                return Ok(());
            }
            look();
            let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
            if interrupted
                && let Some(signal) = self
                    .interrupts
                    .ending()
                    .map_err(|error| failed(errno(error)))?
            {
                let what = self.what.clone();
                return Err(Error::Interrupted { signal, what });
            }
            if is_late {
                let (what, seconds) = (self.what.clone(), self.patience.as_secs());
                return Err(Error::Late { what, seconds });
            }
        }
    }
}

/// Kills a process on drop, unless it is disarmed.
#[derive(Debug)]
pub(super) struct KillGuard {
    pidfd: OwnedFd,
    armed: bool,
}

impl KillGuard {
    pub(super) const fn new(pidfd: OwnedFd) -> Self {
        Self { pidfd, armed: true }
    }

    pub(super) const fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for KillGuard {
    fn drop(&mut self) {
        if self.armed {
            end(self.pidfd.as_fd());
        }
    }
}

/// Kills a child and reaps it. A child in a frozen cgroup dies only when it is thawed, and the process that is its
/// parent then reaps it.
pub(super) fn end(process: BorrowedFd<'_>) {
    let _ = pidfd_send_signal(process, Signal::KILL);
    comes(process, Instant::now() + DYING);
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let _ = waitid(WaitId::PidFd(process), options);
}

/// Tells whether a descriptor becomes readable or hung up before a deadline. No signal ends this wait, so a caller uses
/// it only for a process that is about to end.
pub(super) fn comes(descriptor: BorrowedFd<'_>, until: Instant) -> bool {
    let mut waited = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).ok();
    let came = rustix::io::retry_on_intr(|| poll(&mut waited, left.as_ref()));
    came.is_ok_and(|came| came > 0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Interrupts of which none ever comes.
    pub(crate) struct Silent {
        pipe: Pipe,
        /// Keeps the pipe open, so that it is never at its end.
        _write: OwnedFd,
    }

    impl Silent {
        pub(crate) fn new() -> Self {
            let (read, _write) = rustix::pipe::pipe().unwrap();
            let pipe = Pipe(read);
            Self { pipe, _write }
        }
    }

    impl Interrupts for Silent {
        fn descriptor(&self) -> BorrowedFd<'_> {
            self.pipe.descriptor()
        }

        fn ending(&mut self) -> io::Result<Option<i32>> {
            Ok(None)
        }
    }

    /// Signals that are read from a pipe.
    struct Pipe(OwnedFd);

    impl Interrupts for Pipe {
        fn descriptor(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }

        fn ending(&mut self) -> io::Result<Option<i32>> {
            let mut byte = [0];
            rustix::io::read(&self.0, &mut byte)?;
            Ok((byte[0] != 0).then_some(i32::from(byte[0])))
        }
    }

    fn wait(said: &[u8], patience: Duration) -> Result<(), Error> {
        let (signals, sender) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&sender, said).unwrap();
        let (silent, _open) = rustix::pipe::pipe().unwrap();
        let mut signals = Pipe(signals);
        Wait::new(&mut signals, "the end", patience).until(silent.as_fd(), || {})
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_says_for_what() {
        let error = wait(b"", Duration::from_millis(20)).unwrap_err();
        assert!(matches!(&error, Error::Late { .. }));
        assert!(error.to_string().contains("the end"), "{error}");
    }

    #[test]
    fn a_signal_that_wants_an_end_ends_it_and_others_do_not() {
        let error = wait(&[0, 0, 15], PATIENCE).unwrap_err();
        assert!(matches!(&error, Error::Interrupted { signal: 15, .. }));
        assert_eq!(error.status(), 128 + 15);
    }

    #[test]
    fn the_other_side_s_end_ends_it() {
        let (signals, _sender) = rustix::pipe::pipe().unwrap();
        let (closed, _) = rustix::pipe::pipe().unwrap();
        Wait::new(&mut Pipe(signals), "it", PATIENCE)
            .until(closed.as_fd(), || {})
            .unwrap();
    }
}
