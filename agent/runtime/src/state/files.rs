//! The files of a container's state: no link is followed, and no FIFO is waited for, whatever stands in their place.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use agent_host::regular::{self, Links};
use rustix::fs::{CWD, OFlags};

use super::Error;

/// The file at `path`, to be read and written.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    open_with(path, OFlags::RDWR)
}

/// Likewise; made where it is not there.
pub(super) fn open_or_create(path: &Path) -> Result<File, Error> {
    open_with(path, OFlags::RDWR | OFlags::CREATE)
}

/// What is in it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut file = open_with(path, OFlags::RDONLY)?;
    file.read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

/// Replaces a file at once, so that a reader finds the old or the new.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    write_anew(&new, bytes)?;
    fs::rename(&new, path).map_err(Error::io(path))
}

/// Makes a file with this in it, in place of what one that was killed left there.
pub(super) fn write_anew(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let _ = fs::remove_file(path);
    let mut file = open_with(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
    file.write_all(bytes).map_err(Error::io(path))
}

fn open_with(path: &Path, access: OFlags) -> Result<File, Error> {
    regular::open_at(CWD, path, access, Links::Refused).map_err(|error| {
        match regular::is_other(&error) {
            true => Error::NoFile { path: path.into() },
            false => Error::io(path)(error),
        }
    })
}
