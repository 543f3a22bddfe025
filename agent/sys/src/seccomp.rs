//! Putting system call filters in place.

use std::io;

/// From here on, this thread and what it starts make only the system calls that the filter lets through. Allocates
/// nothing, so that it may stand between clone and exec.
///
/// # Errors
/// seccomp(2)'s; EACCES without no_new_privs and CAP_SYS_ADMIN.
pub fn install(filter: &[libc::sock_filter], flags: u32) -> io::Result<()> {
    let length =
        u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog {
        len: length,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `program` and what it points to outlive the call, and the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    // With TSYNC the result can be the id of a thread that did not follow.
    match result {
        0 => Ok(()),
        ..0 => Err(io::Error::last_os_error()),
        1.. => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}
