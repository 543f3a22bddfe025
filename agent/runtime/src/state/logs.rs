//! Where the logs of detached containers are: on a disk, while the state may be in memory.
//!
//! A container's state says where its log is, so nothing depends on this user's environment staying as it is. What is here
//! from before the host was started, of containers that have no state, is removed.
//!
//! A log that is removed while somebody reads it gets another name, and goes when nobody reads it any more.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use agent_host::owner::Owner;
use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};

use super::{DIRECTORY, Error, Record, Store, is_name};

/// What the directory of a log is called, with the container's name behind, once the container is removed.
const GONE: &str = ".gone.";

/// Where the logs are of the containers that root starts.
const OF_ROOT: &str = "/var/lib/agent/logs";

impl Store {
    /// Where the log of a new container is to be; `None`: beside its state, since this user has no other place.
    pub fn new_log(&self, name: &str) -> Option<PathBuf> {
        let logs = self.logs().filter(|_| is_name(name))?;
        Some(logs.join(name))
    }

    /// Where the log of a container is.
    ///
    /// # Errors
    /// No container can have this name.
    pub fn log(&self, name: &str) -> Result<PathBuf, Error> {
        let logged = self.read(name).ok().and_then(|record| record.log);
        logged.map_or_else(|| self.directory(name), Ok)
    }

    /// Removes the logs that were still read when their containers were removed, and are not any more.
    pub fn remove_read_logs(&self) {
        if let Some(logs) = self.logs() {
            remove_gone(&logs);
        }
    }

    /// Removes the logs of containers that are not there since the host was started again. Others are left alone: who has
    /// another /run than this process may have their state.
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
        // Nobody begins to make a container of one of the names meanwhile.
        let Ok(_making) = self.lock_making() else {
            return;
        };
        for name in strays.iter().filter(|name| self.is_nobody(name)) {
            // What cannot be removed is tried again by the next command.
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
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let state = variable("XDG_STATE_HOME");
        let state = state.or_else(|| Some(variable("HOME")?.join(".local/state")));
        let state = state.filter(|path| path.is_absolute() && is_own(path))?;
        Some(state.join("agent/logs").join(flat(&self.path)))
    }
}

/// Removes a container's log, where it is not in the directory of its state.
///
/// # Errors
/// It cannot be removed.
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

/// Removes what has no container any more.
fn remove_gone(logs: &Path) {
    let entries = fs::read_dir(logs).into_iter().flatten().flatten();
    entries.for_each(|entry| {
        remove_if_gone(&entry);
    });
}

/// Removes a log that has no container any more, and that nobody reads: who does so holds a lock on the directory. What
/// cannot be removed is tried again by the next command. Whether it has none.
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

/// Whether what there is of a path is this user's: `sudo` and `su` may leave another one's home in the environment.
fn is_own(path: &Path) -> bool {
    let found = path.ancestors().find_map(|it| fs::metadata(it).ok());
    found.is_some_and(|it| it.is_dir() && Owner::caller().has(&it))
}

/// When the host was started, by its clock as it is set now.
fn boot_time() -> SystemTime {
    let since = clock_gettime(ClockId::Boottime);
    let since = Duration::new(since.tv_sec.unsigned_abs(), 0);
    SystemTime::now()
        .checked_sub(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A path as one name. A user may have more than one directory of state, and containers of one name in both.
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
