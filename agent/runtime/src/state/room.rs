//! Reserves room for a file that must be written later, even when the disk is full. The file is written in place and
//! renamed.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{Error, files};

/// How much longer a record may become: the path of its cgroup is not known from the start.
const GROWTH: usize = 4096;

/// Reserves room for a file like this, to take the place of the one at `path`.
///
/// # Errors
/// There is no room.
pub(super) fn reserve(path: &Path, like: &[u8]) -> Result<(), Error> {
    let blank = vec![b' '; like.len() + GROWTH];
    files::write_anew(&room(path), &blank)
}

/// Whether room was reserved.
pub(super) fn is_there(path: &Path) -> bool {
    room(path).is_file()
}

/// Replaces a file at once, by room that was reserved.
///
/// # Errors
/// Nothing was reserved, or it was too little.
pub(super) fn fill(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let room = room(path);
    let file = files::open(&room)?;
    let written = file.write_all_at(bytes, 0);
    // The rest of it is given back.
    let written = written.and_then(|()| file.set_len(bytes.len() as u64));
    written.map_err(Error::io(&room))?;
    fs::rename(&room, path).map_err(Error::io(path))
}

fn room(path: &Path) -> PathBuf {
    path.with_extension("room")
}
