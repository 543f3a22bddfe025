//! Ends the unpacking of an image when a signal comes. This module checks for a signal before each read, and while it
//! waits for a process or a pipe.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use agent_host::interrupts::Interrupts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Error;

/// Tells whether the unpacking is to end.
pub(super) trait Stop {
    /// Waits until `descriptor` is readable or hung up. Returns false when `patience` is over.
    ///
    /// # Errors
    /// A signal has come.
    fn wait(&self, descriptor: Option<BorrowedFd<'_>>, patience: Duration) -> io::Result<bool>;

    /// Checks whether to go on.
    ///
    /// # Errors
    /// A signal has come.
    fn check(&self) -> io::Result<()> {
        self.wait(None, Duration::ZERO).map(drop)
    }
}

/// Ends the unpacking when the first signal comes.
pub(super) struct BySignal<'a> {
    /// `None` where signals have their default action, which ends this process.
    signals: RefCell<Option<&'a mut dyn Interrupts>>,
    came: Cell<Option<i32>>,
}

impl<'a> BySignal<'a> {
    pub(super) fn new(signals: Option<&'a mut dyn Interrupts>) -> Self {
        Self {
            signals: RefCell::new(signals),
            came: Cell::new(None),
        }
    }

    /// Returns the error for the signal that came.
    pub(super) fn error(&self) -> Option<Error> {
        self.came.get().map(|signal| Error::Interrupted { signal })
    }
}

impl Stop for BySignal<'_> {
    fn wait(&self, descriptor: Option<BorrowedFd<'_>>, patience: Duration) -> io::Result<bool> {
        let until = Instant::now() + patience;
        let mut signals = self.signals.borrow_mut();
        loop {
            if let Some(signal) = self.came.get() {
                return Err(io::Error::other(format!("interrupted by signal {signal}")));
            }
            let left = until.saturating_duration_since(Instant::now());
            let own = signals.as_ref().map(|it| it.descriptor());
            let both = own.into_iter().chain(descriptor);
            let mut polled: Vec<_> = both
                .map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN))
                .collect();
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            if polled.is_empty() {
                return Ok(false);
            }
            rustix::io::retry_on_intr(|| poll(&mut polled, Some(&timeout)))?;
            let is_ready = |it: Option<&PollFd<'_>>| it.is_some_and(|it| !it.revents().is_empty());
            let (first, last) = (is_ready(polled.first()), is_ready(polled.last()));
            drop(polled);
            if let Some(signals) = signals.as_mut().filter(|_| first) {
                self.came.set(signals.ending()?);
                if self.came.get().is_some() {
                    continue;
                }
            }
            if descriptor.is_some() && last {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
        }
    }
}
