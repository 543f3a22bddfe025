//! What the kernel tells of this process's own descriptors (proc_pid_fdinfo(5)).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use super::Error;
use super::file::File;

/// The number in the row `key` of a descriptor, as `memlock:` of a BPF map or `recursion_misses:`
/// of a BPF program. None: this kernel has no such row.
///
/// # Errors
/// Where `/proc/self/fdinfo` cannot be read, or has something else than a number there.
pub fn number(root: &Path, descriptor: BorrowedFd<'_>, key: &str) -> Result<Option<u64>, Error> {
    let path = format!("proc/self/fdinfo/{}", descriptor.as_raw_fd());
    File::read(root.join(path))?.number_of(key)
}
