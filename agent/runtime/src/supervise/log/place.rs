//! Makes, opens and removes the directory of a log. A symbolic link in its place is not followed.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use agent_host::owner::Owner;

/// Opens a directory that belongs to this user alone.
///
/// # Errors
/// The directory cannot be opened, is a link, or other users may own it or write to it.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Owner::caller().open_directory(path).map(OwnedFd::from)
}

/// Makes an empty directory, and the directories above it where they are missing. A directory that is there already is
/// removed, so the caller must have claimed the container's name.
///
/// # Errors
/// The directory cannot be made, or it or its parent does not belong to this user alone.
pub fn make(path: &Path) -> io::Result<OwnedFd> {
    let all = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(all)?;
    open(all)?;
    remove(path)?;
    DirBuilder::new().mode(0o700).create(path)?;
    open(path)
}

/// Removes the directory of a log, if it exists.
///
/// # Errors
/// The directory cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
