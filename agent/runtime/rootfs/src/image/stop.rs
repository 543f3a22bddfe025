//! Signals that end the unpacking of an image: they are looked for whenever something is read, and while a process or a
//! pipe is waited for.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use agent_host::interrupts::Interrupts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Error;

/// What ends the unpacking.
pub trait Stop {
    /// Waits until something can be read, or the other side has gone; false where that does not come in time.
    ///
    /// # Errors
    /// It is to end.
    fn wait(&self, descriptor: Option<BorrowedFd<'_>>, patience: Duration) -> io::Result<bool>;

    /// Whether to go on.
    ///
    /// # Errors
    /// Likewise.
    fn check(&self) -> io::Result<()> {
        self.wait(None, Duration::ZERO).map(drop)
    }
}

/// Where signals come from, and the one that came.
pub struct BySignal<'a> {
    /// None: a signal ends the process.
    signals: RefCell<Option<&'a mut dyn Interrupts>>,
    came: Cell<Option<i32>>,
}

impl<'a> BySignal<'a> {
    pub fn new(signals: Option<&'a mut dyn Interrupts>) -> Self {
        Self {
            signals: RefCell::new(signals),
            came: Cell::new(None),
        }
    }

    /// What is to be said where a signal came.
    pub fn error(&self) -> Option<Error> {
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
