//! The last code that a process runs: it executes a program or ends the process, and never returns to its callers.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use rustix::io::Errno;

/// A token which proves that the code of no caller runs in this process again. Only [`finish`] makes one.
///
/// The only owners of descriptors that are still used are those that the closure of `finish` captured or made.
#[derive(Debug)]
pub struct Last(PhantomData<*mut ()>);

/// Runs the last code of this process, and ends the process with the status that it returns, or with 101 if it panics.
///
/// Nothing that the callers own is dropped.
pub fn finish(run: impl FnOnce(&Last) -> u8) -> ! {
    /// Ends the process when it is dropped.
    struct End(u8);
    impl Drop for End {
        fn drop(&mut self) {
            super::launch::exit(self.0)
        }
    }
    const PANICKED: u8 = 101;
    let mut end = End(PANICKED);
    end.0 = run(&Last(PhantomData));
    super::launch::exit(end.0)
}

impl Last {
    /// Closes all descriptors except the standard streams and `kept` by close_range(2).
    ///
    /// The owners of other descriptors in the callers do not run again ([`Last`]). The last code must have dropped all
    /// descriptors that it has opened itself.
    ///
    /// # Errors
    /// close_range(2)'s; ENOSYS before Linux 5.9.
    pub fn close_others(&self, kept: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        const FIRST: RawFd = 3;
        let kept = kept.map(|kept| kept.as_raw_fd());
        let mut first = FIRST;
        for number in kept.into_iter().chain([RawFd::MAX]) {
            if first < number {
                // SAFETY: the call takes no pointer. The callers of `finish`, who own descriptors, do not run again.
                let closed = unsafe { libc::syscall(libc::SYS_close_range, first, number - 1, 0) };
                if closed < 0 {
                    return Err(super::launch::last_errno());
                }
            }
            first = first.max(number.saturating_add(1));
        }
        Ok(())
    }
}
