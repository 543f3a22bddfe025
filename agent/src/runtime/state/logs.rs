//! Where the logs of detached containers are: on a disk, while the state may be in memory.
//!
//! A container's state says where its log is, so nothing depends on this user's environment staying as it is. What is here
//! of containers that have no state any more, after the host was restarted, is removed.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{DIRECTORY, Error, Record, Store, is_name};

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

    /// Removes the logs of containers that are not there.
    pub fn remove_stray_logs(&self) {
        let Some(logs) = self.logs() else {
            return;
        };
        let entries = fs::read_dir(&logs).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
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
pub fn remove(record: &Record) -> Result<(), Error> {
    let Some(path) = &record.log else {
        return Ok(());
    };
    if path.file_name() != Some(OsStr::new(&record.name)) {
        return Ok(());
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

/// Whether what there is of a path is this user's: `sudo` and `su` may leave another one's home in the environment.
fn is_own(path: &Path) -> bool {
    let found = path.ancestors().find_map(|it| fs::metadata(it).ok());
    found.is_some_and(|it| it.is_dir() && it.uid() == rustix::process::geteuid().as_raw())
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
