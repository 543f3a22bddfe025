//! Opens the files of a container's state. Opening follows no symbolic link, and does not wait for the other end of a
//! FIFO.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use agent_host::regular::{self, Links};
use rustix::fs::{CWD, OFlags};

use super::Error;

/// Opens the file at `path` for reading and writing.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    open_with(path, OFlags::RDWR)
}

/// Opens the file at `path` for reading and writing, and makes it where it does not exist.
pub(super) fn open_or_create(path: &Path) -> Result<File, Error> {
    open_with(path, OFlags::RDWR | OFlags::CREATE)
}

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut file = open_with(path, OFlags::RDONLY)?;
    file.read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

/// Replaces a file atomically: a reader finds the old content or the new.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    write_anew(&new, bytes)?;
    fs::rename(&new, path).map_err(Error::io(path))
}

/// Makes a file with this content. A file that a killed process left at `path` is removed first.
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
