//! Opens a record that another program wrote, and that its owner alone may have written.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use agent_host::owner::Owner;
use agent_host::regular::Links;
use agent_host::{mount, regular};
// What `agent run` writes is the longest: an engine's OCI configuration has some 50 KB.
use agent_runtime::state::LARGEST;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};

/// A record, as it was when it was read.
#[derive(Debug)]
pub(super) struct Document {
    pub bytes: Vec<u8>,
    pub written: SystemTime,
}

/// Reads `path` below the directory `base`. `None` where it is not there, a part of it is a link, it is no file, or
/// somebody else than `owner` may write to it.
pub(super) fn read(base: &Path, path: &Path, owner: u32) -> Option<Document> {
    let base = directory(base, owner)?;
    // What a user mounts there, as by fuse(4), answers when that user likes.
    let links = Links::Nowhere { mounts: owner == 0 };
    let file = regular::open_at(&base, path, OFlags::RDONLY, links).ok()?;
    let found = file.metadata().ok()?;
    if !Owner(owner).alone_has(&found) || found.len() > LARGEST {
        return None;
    }
    let mut bytes = Vec::new();
    (&file).take(LARGEST).read_to_end(&mut bytes).ok()?;
    let written = found.modified().ok()?;
    Some(Document { bytes, written })
}

/// The names in a directory below `base` that is the owner's alone.
pub(super) fn names(base: &Path, path: &Path, owner: u32) -> Option<impl Iterator<Item = OsString>> {
    let base = directory(base, owner)?;
    let mut beneath =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // As above.
    beneath.set(ResolveFlags::NO_XDEV, owner != 0);
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let directory = openat2(&base, path, flags, Mode::empty(), beneath).ok()?;
    let directory = File::from(directory);
    if !Owner(owner).alone_has(&directory.metadata().ok()?) {
        return None;
    }
    let entries = Dir::read_from(&directory).ok()?.flatten();
    let names = entries.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
    Some(names.filter(|name| name != "." && name != ".."))
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
