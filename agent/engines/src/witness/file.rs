//! Opens a record of another program, if only its owner can have written it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agent_host::owner::Owner;
use agent_host::regular::Links;
use agent_host::{mount, regular};
// The longest record is that of `agent run`: an engine's OCI configuration has some 50 KB.
use agent_runtime::state::LARGEST;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};

/// A record, as it was when it was read.
#[derive(Debug)]
pub(super) struct Document {
    pub bytes: Vec<u8>,
    pub written: SystemTime,
}

/// Reads `path` below the directory `base`. Returns `None` if there is no regular file, or it is too long. Returns
/// `None`, too, if a part of the path is a link, or another user than `owner` may write to the file.
pub(super) fn read(base: &Path, path: &Path, owner: u32) -> Option<Document> {
    let base = directory(base, owner)?;
    // A file system that a user mounts, as with fuse(4), may answer late or never.
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

/// The names in a directory below `base` that only the owner may write to.
pub(super) fn names(
    base: &Path,
    path: &Path,
    owner: u32,
) -> Option<impl Iterator<Item = OsString>> {
    let base = directory(base, owner)?;
    let mut beneath =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // As in `read`: a user's own mounts are refused.
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

/// Opens a directory that only the owner may write to. Root controls the directories above it. The directory may be a
/// mount of the user's, so no call may reach its server before the mount's type is checked.
fn directory(path: &Path, owner: u32) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let wanted = StatxFlags::UID | StatxFlags::MODE | StatxFlags::MNT_ID;
    let found = statx(&opened, c"", UNASKED, wanted).ok()?;
    let is_own = found.stx_uid == owner && found.stx_mode & 0o022 == 0;
    (is_own && (owner == 0 || !mount::is_users(found.stx_mnt_id))).then_some(opened)
}

/// Flags of statx(2) that return what the kernel has cached, without a request to a file system's server.
const UNASKED: AtFlags = AtFlags::EMPTY_PATH.union(AtFlags::STATX_DONT_SYNC);

/// Returns `path` if a file exists there, after it could not be read.
pub(super) fn is_there(path: PathBuf) -> Option<PathBuf> {
    std::fs::symlink_metadata(&path).is_ok().then_some(path)
}
