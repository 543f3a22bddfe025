//! Reserves space for a file that must be written later, even when the disk is full. The file is then written in place
//! and renamed.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{Error, files};

/// The bytes by which a record may grow after the space was reserved: its status becomes longer, and `born` is added.
const GROWTH: usize = 4096;

/// Reserves space for a file of about this length, which will replace the file at `path`.
///
/// # Errors
/// The disk is full, or the file cannot be written.
pub(super) fn reserve(path: &Path, like: &[u8]) -> Result<(), Error> {
    let blank = vec![b' '; like.len() + GROWTH];
    files::write_anew(&room(path), &blank)
}

/// Tells whether space was reserved for the file at `path`.
pub(super) fn is_there(path: &Path) -> bool {
    room(path).is_file()
}

/// Writes into the reserved space, and replaces the file at `path` by it atomically.
///
/// # Errors
/// No space was reserved, or not enough, and the disk is full.
pub(super) fn fill(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let room = room(path);
    let file = files::open(&room)?;
    let written = file.write_all_at(bytes, 0);
    // The file system gets the unused space back.
    let written = written.and_then(|()| file.set_len(bytes.len() as u64));
    written.map_err(Error::io(&room))?;
    fs::rename(&room, path).map_err(Error::io(path))
}

fn room(path: &Path) -> PathBuf {
    path.with_extension("room")
}
