//! Signals to this process, some of which end a wait.

use std::io;
use std::os::fd::BorrowedFd;

/// Receives the signals of a process that catches them, and tells which of them end a wait.
pub trait Interrupts {
    /// Returns a descriptor that is readable once a signal has come.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Returns a signal that has come and ends a wait. Other signals are kept for later.
    ///
    /// # Errors
    /// The signals cannot be read.
    fn ending(&mut self) -> io::Result<Option<i32>>;
}
