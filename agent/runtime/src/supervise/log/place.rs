//! Makes, opens and removes the directory of a log. It follows no link.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use agent_host::owner::Owner;

/// Opens a directory that is this user's alone.
///
/// # Errors
/// It is a link, or others may write to it.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Owner::caller().open_directory(path).map(OwnedFd::from)
}

/// Makes an empty directory, and those above it where they are missing. What was there before of a container of this name,
/// which is known to be none's any more, is removed.
///
/// # Errors
/// It cannot be made, or is not this user's alone, or what it is in is not.
pub fn make(path: &Path) -> io::Result<OwnedFd> {
    let all = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(all)?;
    open(all)?;
    remove(path)?;
    DirBuilder::new().mode(0o700).create(path)?;
    open(path)
}

/// Removes a log, where there is one.
///
/// # Errors
/// It cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
