//! The directories of the logs of detached containers. They are on a disk, while the state may be in memory.
//!
//! A container's record names the directory of its log, so the log is found although the user's environment changes.
//! Logs that are older than the host's last start, and whose containers have no state, are removed.
//!
//! A log that is removed while a process reads it is renamed. A later command removes it once no process reads it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use agent_host::owner::Owner;
use agent_host::user_directory::variable;
use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};

use super::{DIRECTORY, Error, Record, Store, is_name};

/// The prefix of a log's directory once its container has been removed. The container's name follows.
const GONE: &str = ".gone.";

/// The directory of the logs of root's containers.
const OF_ROOT: &str = "/var/lib/agent/logs";

impl Store {
    /// Returns the directory for the log of a new container. None where this user has no directory for logs: the log is
    /// then beside the state.
    pub fn new_log(&self, name: &str) -> Option<PathBuf> {
        let logs = self.logs().filter(|_| is_name(name))?;
        Some(logs.join(name))
    }

    /// Returns the directory of a container's log.
    ///
    /// # Errors
    /// No container can have this name.
    pub fn log(&self, name: &str) -> Result<PathBuf, Error> {
        let logged = self.read(name).ok().and_then(|record| record.log);
        logged.map_or_else(|| self.directory(name), Ok)
    }

    /// Removes the logs that a process still read when their containers were removed, and that no process reads now.
    pub fn remove_read_logs(&self) {
        if let Some(logs) = self.logs() {
            remove_gone(&logs);
        }
    }

    /// Removes the logs that were last changed before the host was started, and whose containers have no state. Newer
    /// logs stay: a process that has another `/run` may hold their state.
    pub fn remove_stray_logs(&self) {
        let Some(logs) = self.logs() else {
            return;
        };
        let entries = fs::read_dir(&logs).into_iter().flatten().flatten();
        let entries = entries.filter(|entry| !remove_if_gone(entry));
        let started = boot_time();
        let is_old = |entry: &fs::DirEntry| {
            let found = entry.metadata().and_then(|found| found.modified());
            found.is_ok_and(|modified| modified < started)
        };
        let old = entries.filter(is_old);
        let names = old.filter_map(|entry| entry.file_name().into_string().ok());
        let is_stray = |name: &String| is_name(name) && self.is_nobody(name);
        let strays: Vec<_> = names.filter(is_stray).collect();
        if strays.is_empty() || self.make().is_err() {
            return;
        }
        // While this lock is held, no process makes a container of one of these names.
        let Ok(_making) = self.lock_making() else {
            return;
        };
        for name in strays.iter().filter(|name| self.is_nobody(name)) {
            // The next command tries again to remove what cannot be removed now.
            let _ = fs::remove_dir_all(logs.join(name));
        }
    }

    fn is_nobody(&self, name: &str) -> bool {
        let directory = self.directory(name);
        directory.is_ok_and(|directory| {
            fs::symlink_metadata(directory).is_err_and(|it| it.kind() == io::ErrorKind::NotFound)
        })
    }

    fn logs(&self) -> Option<PathBuf> {
        if self.path == Path::new(DIRECTORY) {
            return Some(OF_ROOT.into());
        }
        let state = variable("XDG_STATE_HOME");
        let state = state.or_else(|| Some(variable("HOME")?.join(".local/state")));
        let state = state.filter(|path| path.is_absolute() && is_own(path))?;
        Some(state.join("agent/logs").join(flat(&self.path)))
    }
}

/// Removes a container's log. A log in the directory of the state is left to the removal of that directory.
///
/// # Errors
/// The directory of the log cannot be renamed.
pub(crate) fn remove(record: &Record) -> Result<(), Error> {
    let Some(path) = &record.log else {
        return Ok(());
    };
    if path.file_name() != Some(OsStr::new(&record.name)) {
        return Ok(());
    }
    let gone = format!("{GONE}{}.{}", record.name, std::process::id());
    match fs::rename(path, path.with_file_name(gone)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => {
            path.parent().into_iter().for_each(remove_gone);
            Ok(())
        }
    }
}

/// Removes the logs of removed containers that no process reads.
fn remove_gone(logs: &Path) {
    let entries = fs::read_dir(logs).into_iter().flatten().flatten();
    entries.for_each(|entry| {
        remove_if_gone(&entry);
    });
}

/// Removes the log of a removed container, unless a process reads it and so holds a lock on the directory. Returns
/// whether the entry is such a log. The next command tries again to remove what cannot be removed now.
fn remove_if_gone(log: &fs::DirEntry) -> bool {
    let name = log.file_name();
    if !name.as_encoded_bytes().starts_with(GONE.as_bytes()) {
        return false;
    }
    if let Ok(directory) = Owner::caller().open_directory(&log.path())
        && flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
    {
        let _ = fs::remove_dir_all(log.path());
    }
    true
}

/// Tells whether the deepest existing directory of a path is this user's. `sudo` and `su` may leave another user's home
/// in the environment.
fn is_own(path: &Path) -> bool {
    let found = path.ancestors().find_map(|it| fs::metadata(it).ok());
    found.is_some_and(|it| it.is_dir() && Owner::caller().has(&it))
}

/// Returns the time at which the host was started, by its clock as it is set now.
fn boot_time() -> SystemTime {
    let since = clock_gettime(ClockId::Boottime);
    let since = Duration::new(since.tv_sec.unsigned_abs(), 0);
    SystemTime::now()
        .checked_sub(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns a path as one name. A user may have several directories of state, with containers of the same name.
fn flat(path: &Path) -> String {
    let path = path.to_string_lossy();
    path.trim_matches('/').replace('/', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_logs_are_where() {
        assert_eq!(
            Store::at(DIRECTORY).new_log("web"),
            Some("/var/lib/agent/logs/web".into())
        );
        assert_eq!(
            flat(Path::new("/run/user/7/agent/containers")),
            "run-user-7-agent-containers"
        );
        assert!(
            is_own(&std::env::temp_dir().join("not/there"))
                || !rustix::process::geteuid().is_root()
        );
        assert!(!is_own(Path::new("relative")));
    }
}
