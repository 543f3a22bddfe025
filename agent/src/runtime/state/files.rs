//! The files of a container's state: no link is followed, and no FIFO is waited for, whatever stands in their place.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Error;

const FLAGS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The file at `path`, to be read and written.
pub fn open(path: &Path) -> Result<File, Error> {
    open_with(path, OFlags::RDWR)
}

/// Likewise; made where it is not there.
pub fn open_or_create(path: &Path) -> Result<File, Error> {
    open_with(path, OFlags::RDWR | OFlags::CREATE)
}

/// What is in it.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut file = open_with(path, OFlags::RDONLY)?;
    file.read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

/// Replaces a file at once, so that a reader finds the old or the new.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    // One that was killed left it.
    let _ = fs::remove_file(&new);
    let mut file = open_with(&new, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
    file.write_all(bytes).map_err(Error::io(&new))?;
    fs::rename(&new, path).map_err(Error::io(path))
}

fn open_with(path: &Path, flags: OFlags) -> Result<File, Error> {
    let no_file = || Error::NoFile { path: path.into() };
    let file = match rustix::fs::open(path, flags | FLAGS, Mode::from(0o600)) {
        Ok(file) => File::from(file),
        // A link; a socket, or a FIFO without a reader.
        Err(Errno::LOOP | Errno::NXIO) => return Err(no_file()),
        Err(errno) => return Err(Error::io(path)(io::Error::from(errno))),
    };
    let found = file.metadata().map_err(Error::io(path))?;
    if found.is_file() {
        Ok(file)
    } else {
        Err(no_file())
    }
}
