//! Takes over the containers of older agents, which kept their state in the server's directory.
//!
//! The supervisor of such a container goes on writing to the old path. So one rename exchanges the container's
//! directory with a symbolic link that leads to the new path. A process that has the old path, or has the lock open,
//! still finds the same files.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use agent_host::owner::Owner;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Error, Store, is_name};

/// The directory in which older agents kept the state of root's containers.
pub(super) const DIRECTORY: &str = "/run/agent/containers";

impl Store {
    /// Moves the containers of older agents into this store. Returns an error for each container that cannot be moved.
    pub fn adopt(&self) -> Vec<Error> {
        let former = self.former.as_ref().filter(|former| is_safe(former));
        let Some(former) = former else {
            return Vec::new();
        };
        let moved = self
            .make()
            .and_then(|()| self.lock_making())
            .and_then(|_making| {
                let entries = fs::read_dir(former).map_err(Error::io(former))?;
                let names = entries
                    .flatten()
                    .filter_map(|it| it.file_name().into_string().ok());
                let names = names.filter(|name| is_name(name));
                let moved = names.map(|name| take(&former.join(&name), &self.path.join(&name)));
                Ok(moved.filter_map(Result::err).collect())
            });
        remove_if_empty(former);
        moved.unwrap_or_else(|error| vec![error])
    }
}

/// Tells whether a directory and its parent belong to this user alone.
fn is_safe(former: &Path) -> bool {
    let all = [Some(former), former.parent()];
    let mut all = all.into_iter().flatten();
    all.all(|path| Owner::caller().alone_has_directory_at(path))
}

fn take(old: &Path, new: &Path) -> Result<(), Error> {
    let found = fs::symlink_metadata(old).map_err(Error::io(old))?;
    if found.is_symlink() {
        if !old.exists() {
            // The link was left by a container that has been removed.
            let _ = fs::remove_file(old);
        }
        return Ok(());
    }
    let noted = noted(old);
    match symlink(new, new) {
        // A process that was killed before the exchange left the link.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && new.is_symlink() => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // The error is reported once, and not by every command.
            return match File::create_new(noted) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(taken(old)),
            };
        }
        made => made.map_err(Error::io(new))?,
    }
    let _ = fs::remove_file(noted);
    renameat_with(CWD, old, CWD, new, RenameFlags::EXCHANGE).map_err(|errno| {
        let _ = fs::remove_file(new);
        Error::io(old)(errno.into())
    })
}

fn taken(old: &Path) -> Error {
    let name = old.file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let path = old.to_owned();
    Error::Taken { path, name }
}

/// Returns the path of the file that marks the error of a taken name as reported.
fn noted(old: &Path) -> PathBuf {
    let name = old.file_name().unwrap_or_default().to_string_lossy();
    old.with_file_name(format!(".{name}.taken"))
}

/// Removes the old directory where nothing but its lock is left.
fn remove_if_empty(former: &Path) {
    let entries = fs::read_dir(former).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    if names.all(|name| name == ".lock") {
        let _ = fs::remove_file(former.join(".lock"));
        let _ = fs::remove_dir(former);
    }
}
