//! The descriptors that processes have open, and their limit of them: proc_pid_fd(5), proc_pid_limits(5).

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent_model::limit::Limit;

use super::Error;
use super::file::{File, number, words};
use super::process::Process;

/// The open descriptors of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFiles {
    pub descriptors: u64,
    /// Those that are sockets.
    pub sockets: u64,
}

/// Counts the open descriptors of a process.
///
/// # Errors
/// [`Error::Gone`] where it has ended. Otherwise this process may not look.
pub fn of_process(root: &Path, pid: u32) -> Result<OpenFiles, Error> {
    let directory = Process::new(root, pid).path("fd");
    let entries = fs::read_dir(&directory);
    let entries = entries.map_err(|source| Error::new(directory.clone(), source))?;
    let mut found = OpenFiles::default();
    for entry in entries.flatten() {
        found.descriptors += 1;
        // A descriptor that is closed meanwhile has no link.
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let is_socket = target.as_os_str().as_bytes().starts_with(b"socket:");
        found.sockets += u64::from(is_socket);
    }
    Ok(found)
}

/// Returns the soft limit of open descriptors of the process that started at `start_time` (nanoseconds of
/// CLOCK_BOOTTIME).
///
/// # Errors
/// As of [`of_process`]; the file cannot be parsed.
pub fn limit(root: &Path, pid: u32, start_time: u64) -> Result<Limit, Error> {
    const KEY: &[u8] = b"Max open files";
    let process = Process::new(root, pid);
    let file = File::read(process.path("limits"))?;
    process.is_of(Some(start_time))?;
    let line = file.lines().find_map(|line| line.strip_prefix(KEY));
    let limit = line.and_then(|line| match words(line).next()? {
        b"unlimited" => Some(Limit::Max),
        word => number(word).map(Limit::Value),
    });
    limit.ok_or_else(|| file.malformed(&file.bytes, "a row of open files"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::tree;

    const STAT: &str = "7 (a) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 10\n";
    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max processes             95968                95968                processes
Max open files            1024                 20000                files
";

    #[test]
    fn descriptors_and_their_limit() {
        let unlimited = LIMITS.replace("1024 ", "unlimited ");
        for (limits, wanted) in [(LIMITS, Limit::Value(1024)), (&*unlimited, Limit::Max)] {
            let root = tree(&[
                ("proc/7/fd/0", "-> /dev/null"),
                ("proc/7/fd/1", "-> socket:[99]"),
                ("proc/7/fd/5", "-> socketless"),
                ("proc/7/stat", STAT),
                ("proc/7/limits", limits),
            ]);
            let found = of_process(root.path(), 7).unwrap();
            assert_eq!((found.descriptors, found.sockets), (3, 1));
            assert_eq!(limit(root.path(), 7, 7_770_000_000).unwrap(), wanted);
            let other = limit(root.path(), 7, 8_000_000_000);
            assert!(matches!(other, Err(Error::Gone { .. })), "{other:?}");
            let gone = of_process(root.path(), 8);
            assert!(matches!(gone, Err(Error::Gone { .. })), "{gone:?}");
        }
        let root = tree(&[
            ("proc/7/stat", STAT),
            ("proc/7/limits", "Max open files x\n"),
        ]);
        let error = limit(root.path(), 7, 7_770_000_000).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
    }
}
