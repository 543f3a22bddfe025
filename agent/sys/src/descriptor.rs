//! Whether two descriptors refer to the same open file description.

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Whether two descriptors of this process refer to the same open file description, with its position and flags
/// (kcmp(2)). `None` if the kernel does not have the call, or refuses it.
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
