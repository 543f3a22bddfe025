//! Places in a root file system that nobody vouches for: its links lead nowhere outside of it.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

/// As long as the kernel takes one.
const PATH_BYTES: usize = 4096;
/// A rename elsewhere makes the kernel give up a look-up that must stay inside; it then asks to try again.
const TRIES: usize = 64;

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

/// Whether symbolic links on the way are followed, inside the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    Follow,
    Refuse,
}

/// Opens a place as a path: nothing is read or written by that.
pub fn open(root: BorrowedFd<'_>, path: &CStr, links: Links) -> Result<OwnedFd, Errno> {
    open_for(root, path, links, OFlags::PATH)
}

/// Opens a place.
pub fn open_for(
    root: BorrowedFd<'_>,
    path: &CStr,
    links: Links,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let mut how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if links == Links::Refuse {
        how |= ResolveFlags::NO_SYMLINKS;
    }
    for _ in 1..TRIES {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how)
}

/// Opens a mount point, which is made where it is missing, with the directories that it is in.
pub fn mount_point(
    root: BorrowedFd<'_>,
    path: &CStr,
    kind: Kind,
    links: Links,
) -> Result<OwnedFd, Errno> {
    match open(root, path, links) {
        Err(Errno::NOENT) => make(root, path, kind, links),
        done => done,
    }
}

fn make(root: BorrowedFd<'_>, path: &CStr, kind: Kind, links: Links) -> Result<OwnedFd, Errno> {
    let path = path.to_bytes();
    let mut there = path.len();
    let mut parent = loop {
        there = above(path, there);
        if there == 0 {
            break None;
        }
        let mut buffer = [0u8; PATH_BYTES];
        match open(root, text(&mut buffer, path.get(..there))?, links) {
            Err(Errno::NOENT) => {}
            found => break Some(found?),
        }
    };
    while let Some(start) = position(path, there, |byte| byte != b'/') {
        let end = position(path, start, |byte| byte == b'/').unwrap_or(path.len());
        let is_last = position(path, end, |byte| byte != b'/').is_none();
        let kind = if is_last { kind } else { Kind::Directory };
        let name = path.get(start..end);
        let mut buffer = [0u8; PATH_BYTES];
        let made = match name {
            // From the root on: upwards must not lead out of it.
            Some(b"." | b"..") => open(root, text(&mut buffer, path.get(..end))?, links)?,
            name => {
                let parent = parent.as_ref().map_or(root, |parent| parent.as_fd());
                make_one(parent, text(&mut buffer, name)?, kind)?
            }
        };
        parent = Some(made);
        there = end;
    }
    parent.ok_or(Errno::NOENT)
}

/// Where the directory ends that the place is in which ends at `end`; 0 is the root.
fn above(path: &[u8], end: usize) -> usize {
    let whole = path.get(..end).unwrap_or_default();
    let is_name = |byte: &u8| *byte != b'/';
    let last = whole.iter().rposition(is_name).map_or(0, |at| at + 1);
    let slash = whole
        .get(..last)
        .and_then(|place| place.iter().rposition(|byte| *byte == b'/'));
    let slash = slash.unwrap_or(0);
    let parent = whole.get(..slash).unwrap_or_default();
    parent.iter().rposition(is_name).map_or(0, |at| at + 1)
}

fn make_one(parent: BorrowedFd<'_>, name: &CStr, kind: Kind) -> Result<OwnedFd, Errno> {
    let directory = Mode::from_raw_mode(0o755);
    let file = Mode::from_raw_mode(0o644);
    let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match kind {
        Kind::Directory => {
            match mkdirat(parent, name, directory) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            openat(parent, name, path | OFlags::DIRECTORY, Mode::empty())
        }
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(parent, name, flags, file)
        }
    }
}

fn position(bytes: &[u8], from: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let rest = bytes.get(from..)?;
    Some(from + rest.iter().position(|byte| wanted(*byte))?)
}

/// `bytes` with a NUL behind them.
fn text<'a>(buffer: &'a mut [u8; PATH_BYTES], bytes: Option<&[u8]>) -> Result<&'a CStr, Errno> {
    let bytes = bytes.unwrap_or_default();
    if bytes.len() >= buffer.len() {
        return Err(Errno::NAMETOOLONG);
    }
    for (to, from) in buffer.iter_mut().zip(bytes) {
        *to = *from;
    }
    CStr::from_bytes_until_nul(buffer).map_err(|_| Errno::NAMETOOLONG)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn directory(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn makes_what_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let fd = directory(root.path());
        mount_point(fd.as_fd(), c"/a//b/c", Kind::File, Links::Follow).unwrap();
        assert!(root.path().join("a/b/c").is_file());
        mount_point(fd.as_fd(), c"a/b/d/", Kind::Directory, Links::Refuse).unwrap();
        assert!(root.path().join("a/b/d").is_dir());
        mount_point(fd.as_fd(), c"//e/", Kind::Directory, Links::Refuse).unwrap();
        assert!(root.path().join("e").is_dir());
    }

    #[test]
    fn upwards_stays_inside() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let fd = directory(&root);
        for path in [c"new/../../../up", c"new/./../../x/../up", c"../up"] {
            mount_point(fd.as_fd(), path, Kind::Directory, Links::Refuse).unwrap();
        }
        assert!(root.join("new").is_dir() && root.join("up").is_dir());
        assert!(!parent.path().join("up").exists());
    }

    #[test]
    fn links_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        let fd = directory(root.path());
        symlink(outside.path(), root.path().join("absolute")).unwrap();
        symlink("../../../../..", root.path().join("up")).unwrap();
        std::fs::create_dir(root.path().join("run")).unwrap();
        symlink("/run", root.path().join("inside")).unwrap();

        // Absolute links are the root's own; this one leads to nothing there, and mkdir does not follow it.
        assert!(mount_point(fd.as_fd(), c"absolute/x", Kind::Directory, Links::Follow).is_err());
        assert!(!outside.path().join("x").exists());
        mount_point(fd.as_fd(), c"up/x", Kind::Directory, Links::Follow).unwrap();
        assert!(root.path().join("x").is_dir());
        mount_point(fd.as_fd(), c"inside/y", Kind::Directory, Links::Follow).unwrap();
        assert!(root.path().join("run/y").is_dir());
    }

    #[test]
    fn refuses_links_where_told() {
        let root = tempfile::tempdir().unwrap();
        let fd = directory(root.path());
        std::fs::create_dir(root.path().join("run")).unwrap();
        symlink("/run", root.path().join("proc")).unwrap();
        let refused = mount_point(fd.as_fd(), c"/proc", Kind::Directory, Links::Refuse);
        assert_eq!(refused.unwrap_err(), Errno::LOOP);
    }
}
