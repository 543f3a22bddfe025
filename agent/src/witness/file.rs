//! Opens a record that another program wrote, and that its owner alone may have written.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};

use crate::host::mount;

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
    // A FIFO is opened without a writer.
    let file = below(base, path, owner, OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let found = file.metadata().ok()?;
    if !found.is_file() || !is_of(&found, owner) || found.len() > LARGEST {
        return None;
    }
    let mut bytes = Vec::new();
    (&file).take(LARGEST).read_to_end(&mut bytes).ok()?;
    let written = found.modified().ok()?;
    Some(Record { bytes, written })
}

/// The names in a directory below `base` that is the owner's alone.
pub fn names(base: &Path, path: &Path, owner: u32) -> Option<impl Iterator<Item = OsString>> {
    let directory = below(base, path, owner, OFlags::DIRECTORY)?;
    if !is_of(&directory.metadata().ok()?, owner) {
        return None;
    }
    let entries = Dir::read_from(&directory).ok()?.flatten();
    let names = entries.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
    Some(names.filter(|name| name != "." && name != ".."))
}

fn below(base: &Path, path: &Path, owner: u32, flags: OFlags) -> Option<File> {
    let base = directory(base, owner)?;
    let mut beneath =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if owner != 0 {
        // What a user mounts there, as by fuse(4), answers when that user likes.
        beneath |= ResolveFlags::NO_XDEV;
    }
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat2(&base, path, flags, Mode::empty(), beneath).ok()?;
    Some(File::from(file))
}

/// Opens a directory that is the owner's alone, to look below it. Those above it are root's to choose; it may be a user's
/// own mount, and is asked nothing before that is out of the question.
fn directory(path: &Path, owner: u32) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let wanted = StatxFlags::UID | StatxFlags::MODE | StatxFlags::MNT_ID;
    let found = statx(&opened, c"", UNASKED, wanted).ok()?;
    let is_own = found.stx_uid == owner && found.stx_mode & 0o022 == 0;
    (is_own && (owner == 0 || !mount::is_users(found.stx_mnt_id))).then_some(opened)
}

/// As the kernel has it, without asking a file system's server.
const UNASKED: AtFlags = AtFlags::EMPTY_PATH.union(AtFlags::STATX_DONT_SYNC);

/// Whether it is the user's, and nobody else may write to it.
fn is_of(found: &std::fs::Metadata, owner: u32) -> bool {
    found.uid() == owner && found.mode() & 0o022 == 0
}
