//! Whether two descriptors are one open file.

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// kcmp(2) of two descriptors of this process: whether they share an open file description, with its position and flags.
/// `None` where this kernel does not have the call, or refuses it.
#[must_use]
pub fn is_same_open_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Option<bool> {
    const KCMP_FILE: libc::c_int = 0;
    let own = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: the call takes no pointer.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            own,
            own,
            KCMP_FILE,
            one.as_raw_fd() as libc::c_ulong,
            other.as_raw_fd() as libc::c_ulong,
        )
    };
    (order >= 0).then_some(order == 0)
}
