//! Opens a record of another program, if only its owner can have written it.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use agent_host::owner::Owner;
use agent_host::regular::Links;
use agent_host::{mount, regular};
// The longest record is that of `agent run`: an engine's OCI configuration has some 50 KB.
use agent_runtime::state::LARGEST;
use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat, openat2, statx,
};

/// A record, as it was when it was read.
#[derive(Debug)]
pub(super) struct Document {
    pub bytes: Vec<u8>,
    pub written: SystemTime,
}

/// A record that is open and was not read yet.
#[derive(Debug)]
pub(super) struct OpenDocument {
    pub file: File,
    pub found: Metadata,
}

/// Reads `path` below the directory `base`. Returns `None` if there is no regular file, or it is too long. Returns
/// `None`, too, if a part of the path is a link, or another user than `owner` may write to the file.
pub(super) fn read(base: &Path, path: &Path, owner: u32) -> Option<Document> {
    open_in(&directory(base, owner)?, path, owner)?.read()
}

/// Opens `path` below a directory whose path a record has. Any part of `base` may be another user's.
pub(super) fn open_named(base: &Path, path: &Path, owner: u32) -> Option<OpenDocument> {
    open_in(&walk(base, owner)?, path, owner)
}

fn open_in(base: &OwnedFd, path: &Path, owner: u32) -> Option<OpenDocument> {
    // A file system that a user mounts, as with fuse(4), may answer late or never.
    let links = Links::Nowhere { mounts: owner == 0 };
    let file = regular::open_at(base, path, OFlags::RDONLY, links).ok()?;
    let found = file.metadata().ok()?;
    let is_own = Owner(owner).alone_has(&found);
    is_own.then_some(OpenDocument { file, found })
}

impl OpenDocument {
    /// Reads a record that is not too long.
    pub(super) fn read(self) -> Option<Document> {
        if self.found.len() > LARGEST {
            return None;
        }
        let mut bytes = Vec::new();
        self.file.take(LARGEST).read_to_end(&mut bytes).ok()?;
        let written = self.found.modified().ok()?;
        Some(Document { bytes, written })
    }
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
    // As in `open_in`: a user's own mounts are refused.
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

/// The flags to open a directory on the way, without a request to a file system's server.
const ON_THE_WAY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a directory that only the owner may write to. Root controls the directories above it. The directory may be a
/// mount of the user's, so no call may reach its server before the mount's type is checked.
fn directory(path: &Path, owner: u32) -> Option<OwnedFd> {
    let opened = openat(CWD, path, ON_THE_WAY, Mode::empty()).ok()?;
    let found = cached(&opened)?;
    let answers = owner == 0 || !mount::is_users(found.stx_mnt_id);
    (is_own(&found, owner) && answers).then_some(opened)
}

/// As [`directory`], for a path that a user may have chosen: no part of it may be a link or a user's mount.
fn walk(path: &Path, owner: u32) -> Option<OwnedFd> {
    let mut opened = openat(CWD, c"/", ON_THE_WAY, Mode::empty()).ok()?;
    let mut found = cached(&opened)?;
    for part in path.strip_prefix("/").ok()?.components() {
        let Component::Normal(name) = part else {
            return None;
        };
        opened = openat(&opened, name, ON_THE_WAY, Mode::empty()).ok()?;
        let here = cached(&opened)?;
        if here.stx_mnt_id != found.stx_mnt_id && mount::is_users(here.stx_mnt_id) {
            return None;
        }
        found = here;
    }
    is_own(&found, owner).then_some(opened)
}

fn is_own(found: &Statx, owner: u32) -> bool {
    found.stx_uid == owner && found.stx_mode & 0o022 == 0
}

/// What the kernel has cached about a file, without a request to a file system's server.
fn cached(opened: &OwnedFd) -> Option<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::UID | StatxFlags::MODE | StatxFlags::MNT_ID;
    statx(opened, c"", flags, wanted).ok()
}

/// Returns `path` if a file exists there, after it could not be read.
pub(super) fn is_there(path: PathBuf) -> Option<PathBuf> {
    std::fs::symlink_metadata(&path).is_ok().then_some(path)
}
