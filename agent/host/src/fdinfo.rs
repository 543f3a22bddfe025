//! What the kernel reports about this process's own descriptors (proc_pid_fdinfo(5)).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use super::Error;
use super::file::File;

/// Returns the numbers in the rows `keys` of a descriptor, such as `memlock:` of a BPF map or `recursion_misses:` of a
/// BPF program. None: the kernel writes no such row.
///
/// # Errors
/// `/proc/self/fdinfo` cannot be read, or a row does not hold a number.
pub fn numbers<const N: usize>(
    root: &Path,
    descriptor: BorrowedFd<'_>,
    keys: [&str; N],
) -> Result<[Option<u64>; N], Error> {
    let path = format!("proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let file = File::read(root.join(path))?;
    let mut numbers = [None; N];
    for (number, key) in numbers.iter_mut().zip(keys) {
        *number = file.number_of(key)?;
    }
    Ok(numbers)
}
