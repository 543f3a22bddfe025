//! Containers of agents that kept their state in the server's directory: each is moved to where it belongs.
//!
//! The supervisor of such a container goes on writing to the path that it knows. So its directory and a link to where that
//! goes are exchanged in one step: whoever has the old path, or the lock open, still finds the same files.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use agent_host::owner::Owner;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Error, Store, is_name};

/// Where root's were.
pub(super) const DIRECTORY: &str = "/run/agent/containers";

impl Store {
    /// Takes over what older agents left, and says what cannot be.
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

/// Whether it and the one above are this user's alone.
fn is_safe(former: &Path) -> bool {
    let all = [Some(former), former.parent()];
    let mut all = all.into_iter().flatten();
    all.all(|path| Owner::caller().alone_has_directory_at(path))
}

fn take(old: &Path, new: &Path) -> Result<(), Error> {
    let found = fs::symlink_metadata(old).map_err(Error::io(old))?;
    if found.is_symlink() {
        if !old.exists() {
            // The container was removed since.
            let _ = fs::remove_file(old);
        }
        return Ok(());
    }
    let noted = noted(old);
    match symlink(new, new) {
        // One that was killed here left the link.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && new.is_symlink() => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // It is said once, and not by every command.
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

/// The file by which it is known that somebody was told of a name that is taken.
fn noted(old: &Path) -> PathBuf {
    let name = old.file_name().unwrap_or_default().to_string_lossy();
    old.with_file_name(format!(".{name}.taken"))
}

/// Where nothing but the lock is left, that is of no use to anybody.
fn remove_if_empty(former: &Path) {
    let entries = fs::read_dir(former).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    if names.all(|name| name == ".lock") {
        let _ = fs::remove_file(former.join(".lock"));
        let _ = fs::remove_dir(former);
    }
}
