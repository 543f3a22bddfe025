//! Installs system call filters.

use std::io;

/// Installs a system call filter for this thread and everything that it starts. It allocates nothing, so it may be
/// called between clone and exec.
///
/// # Errors
/// seccomp(2)'s; EACCES with neither no_new_privs nor CAP_SYS_ADMIN; ESRCH if a thread cannot be synchronized.
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
    // With SECCOMP_FILTER_FLAG_TSYNC, the result can be the id of a thread that the kernel could not synchronize.
    match result {
        0 => Ok(()),
        ..0 => Err(io::Error::last_os_error()),
        1.. => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}
