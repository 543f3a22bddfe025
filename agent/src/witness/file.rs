//! Opens a record that another program wrote, and that its owner alone may have written.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

// What `agent run` writes is the longest: an engine's OCI configuration has some 50 KB.
use crate::runtime::state::LARGEST;

/// A record, as it was when it was read.
#[derive(Debug)]
pub struct Record {
    pub bytes: Vec<u8>,
    pub written: SystemTime,
}

/// Reads `path` below the directory `base`. `None` where it is not there, a part of it is a link, it is no file, or
/// somebody else than `owner` may write to it.
pub fn read(base: &Path, path: &Path, owner: u32) -> Option<Record> {
    let base = directory(base, owner)?;
    // A FIFO is opened without a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut beneath =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if owner != 0 {
        // What a user mounts there, as by fuse(4), answers when that user likes.
        beneath |= ResolveFlags::NO_XDEV;
    }
    let file = openat2(&base, path, flags, Mode::empty(), beneath).ok()?;
    let file = File::from(file);
    let found = file.metadata().ok()?;
    if !found.is_file() || !is_of(&found, owner) || found.len() > LARGEST {
        return None;
    }
    let mut bytes = Vec::new();
    (&file).take(LARGEST).read_to_end(&mut bytes).ok()?;
    let written = found.modified().ok()?;
    Some(Record { bytes, written })
}

/// Opens a directory that is the owner's alone. Those above it are root's to choose.
pub fn directory(path: &Path, owner: u32) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let opened = File::from(opened);
    is_of(&opened.metadata().ok()?, owner).then_some(opened)
}

/// Whether it is the user's, and nobody else may write to it.
fn is_of(found: &std::fs::Metadata, owner: u32) -> bool {
    found.uid() == owner && found.mode() & 0o022 == 0
}
