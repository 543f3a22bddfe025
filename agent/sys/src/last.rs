//! The last code of a process: it executes a program or ends the process, and never returns to its callers.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use rustix::io::Errno;

/// Stands for the promise that no caller's code runs in this process again: [`finish`] gives it, and no other function.
/// Of all owners of descriptors only those that `finish` was called with are left.
#[derive(Debug)]
pub struct Last(PhantomData<*mut ()>);

/// Runs the last code of this process, which ends with the status that it gives. Nothing that the callers own is dropped:
/// the process ends also where the code panics.
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
    /// close_range(2) of all descriptors but the standard streams and `kept`. Owners of others in the callers are gone, as
    /// [`Last`] says; what the last code itself has opened, it drops before.
    ///
    /// # Errors
    /// close_range(2)'s; ENOSYS before Linux 5.9.
    pub fn close_others(&self, kept: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        const FIRST: RawFd = 3;
        let kept = kept.map(|kept| kept.as_raw_fd());
        let mut first = FIRST;
        for number in kept.into_iter().chain([RawFd::MAX]) {
            if first < number {
                // SAFETY: the call takes no pointer. The callers of `finish` do not run again.
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
