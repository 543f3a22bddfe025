//! Opens mount points, and paths that are to be hidden or changed, in an untrusted root file system.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use agent_rootfs::lookup;
pub(super) use agent_rootfs::lookup::LinkPolicy;
use rustix::fs::{Mode, OFlags, mkdirat, openat, readlinkat_raw};
use rustix::io::Errno;

use super::own_mounts::OwnMounts;

/// The most bytes of a path, with its NUL (`PATH_MAX`, include/uapi/linux/limits.h).
const PATH_BYTES: usize = 4096;
/// The most dangling links that are followed in a row: the kernel's own limit (`MAXSYMLINKS`, include/linux/namei.h).
const MOST_LINKS: usize = 40;

/// The type of file that a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    Directory,
    File,
}

/// A directory that serves as `/` for look-ups of paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Within<'a> {
    root: BorrowedFd<'a>,
    /// The container's mounts, on which an opened file must be. None where the host's mounts cannot be reached.
    own: Option<&'a OwnMounts>,
}

impl<'a> Within<'a> {
    pub(super) const fn new(root: BorrowedFd<'a>, own: Option<&'a OwnMounts>) -> Self {
        Self { root, own }
    }

    /// Opens a path with O_PATH, so that the opened file is neither read nor written.
    pub(super) fn open(self, path: &CStr, links: LinkPolicy) -> Result<OwnedFd, Errno> {
        self.open_for(path, links, OFlags::PATH)
    }

    /// Opens a path with these flags.
    pub(super) fn open_for(
        self,
        path: &CStr,
        links: LinkPolicy,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        self.own(lookup::open(self.root, relative(path), links, flags)?)
    }

    /// Opens a mount point. Makes it and its parent directories where they are missing. Where the path is a dangling
    /// link, makes the target of the link.
    pub(super) fn mount_point(
        self,
        path: &CStr,
        kind: NodeKind,
        links: LinkPolicy,
    ) -> Result<OwnedFd, Errno> {
        match self.open(path, links) {
            Err(Errno::NOENT) => self.make(path, kind, links),
            done => done,
        }
    }

    /// Checks that an opened file is on one of the container's mounts, and not on one of the host's.
    fn own(self, place: OwnedFd) -> Result<OwnedFd, Errno> {
        if let Some(own) = self.own {
            own.check(place.as_fd())?;
        }
        Ok(place)
    }

    fn make(self, path: &CStr, kind: NodeKind, links: LinkPolicy) -> Result<OwnedFd, Errno> {
        let mut text = Text::new(path.to_bytes())?;
        for _ in 0..MOST_LINKS {
            let (parent, there) = self.deepest(&text, links)?;
            let Some((start, end)) = text.component(there) else {
                return parent.ok_or(Errno::NOENT);
            };
            let name = text.slice(start, end);
            let directory = parent.as_ref().map_or(self.root, |parent| parent.as_fd());
            let mut target = [0u8; PATH_BYTES];
            match readlinkat_raw(directory, Text::new(name)?.as_c_str()?, &mut target) {
                Ok(_) if links == LinkPolicy::Refuse => return Err(Errno::LOOP),
                Ok(length) => {
                    let target = target.get(..length).ok_or(Errno::NAMETOOLONG)?;
                    text = text.with_link(start, end, target)?;
                }
                // EINVAL: another process has just made a file of this name, which is no link.
                Err(Errno::NOENT | Errno::INVAL) => {
                    return self.make_from(parent, &text, there, kind, links);
                }
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::LOOP)
    }

    /// Opens the deepest existing directory above a path. Returns it with the length of its path, or none and 0 for the
    /// root.
    fn deepest(self, text: &Text, links: LinkPolicy) -> Result<(Option<OwnedFd>, usize), Errno> {
        let mut there = text.length;
        loop {
            there = above(text.bytes(), there);
            if there == 0 {
                return Ok((None, 0));
            }
            match self.open(Text::new(text.slice(0, there))?.as_c_str()?, links) {
                Err(Errno::NOENT) => {}
                found => return Ok((Some(found?), there)),
            }
        }
    }

    /// Makes the components of the path from byte `there` on, and opens the last one.
    fn make_from(
        self,
        mut parent: Option<OwnedFd>,
        text: &Text,
        mut there: usize,
        kind: NodeKind,
        links: LinkPolicy,
    ) -> Result<OwnedFd, Errno> {
        while let Some((start, end)) = text.component(there) {
            let is_last = text.component(end).is_none();
            let kind = if is_last { kind } else { NodeKind::Directory };
            let made = match text.slice(start, end) {
                // The look-up begins at the root, so that `..` cannot lead out of it.
                b"." | b".." => self.open(Text::new(text.slice(0, end))?.as_c_str()?, links)?,
                name => {
                    let parent = parent.as_ref().map_or(self.root, |parent| parent.as_fd());
                    self.own(make_one(parent, Text::new(name)?.as_c_str()?, kind)?)?
                }
            };
            parent = Some(made);
            there = end;
        }
        parent.ok_or(Errno::NOENT)
    }
}

/// Returns where the path of the parent ends, for a path that ends at `end`. 0 stands for the root.
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

fn make_one(parent: BorrowedFd<'_>, name: &CStr, kind: NodeKind) -> Result<OwnedFd, Errno> {
    let directory = Mode::from_raw_mode(0o755);
    let file = Mode::from_raw_mode(0o644);
    let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match kind {
        NodeKind::Directory => {
            match mkdirat(parent, name, directory) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            openat(parent, name, path | OFlags::DIRECTORY, Mode::empty())
        }
        NodeKind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(parent, name, flags, file)
        }
    }
}

/// Returns a path without its leading slashes, because a look-up begins at its root. The root itself is `.`.
fn relative(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or(0);
    match bytes.get(start..).map(CStr::from_bytes_with_nul) {
        Some(Ok(relative)) if !relative.is_empty() => relative,
        _ => c".",
    }
}

/// A path of bounded length that ends in a NUL. It is stored in place, because nothing here allocates.
struct Text {
    buffer: [u8; PATH_BYTES],
    length: usize,
}

impl Text {
    fn new(bytes: &[u8]) -> Result<Self, Errno> {
        let mut text = Self {
            buffer: [0; PATH_BYTES],
            length: 0,
        };
        text.append(bytes)?;
        Ok(text)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let end = self.length + bytes.len();
        if end >= PATH_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        let to = self.buffer.get_mut(self.length..end);
        to.ok_or(Errno::NAMETOOLONG)?.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        self.slice(0, self.length)
    }

    fn slice(&self, start: usize, end: usize) -> &[u8] {
        self.buffer.get(start..end).unwrap_or_default()
    }

    fn as_c_str(&self) -> Result<&CStr, Errno> {
        CStr::from_bytes_until_nul(&self.buffer).map_err(|_| Errno::NAMETOOLONG)
    }

    /// Returns the start and the end of the first name at or after byte `from`.
    fn component(&self, from: usize) -> Option<(usize, usize)> {
        let rest = self.bytes().get(from..)?;
        let start = from + rest.iter().position(|byte| *byte != b'/')?;
        let name = self.bytes().get(start..)?;
        let length = name.iter().position(|byte| *byte == b'/');
        Some((start, start + length.unwrap_or(name.len())))
    }

    /// Replaces the name from `start` to `end` by the target of its link.
    fn with_link(&self, start: usize, end: usize, target: &[u8]) -> Result<Self, Errno> {
        let is_absolute = target.first() == Some(&b'/');
        let mut text = Self::new(self.slice(0, if is_absolute { 0 } else { start }))?;
        text.append(target)?;
        text.append(self.slice(end, self.length))?;
        Ok(text)
    }
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

    fn mount_point(
        root: &OwnedFd,
        path: &CStr,
        kind: NodeKind,
        links: LinkPolicy,
    ) -> Result<OwnedFd, Errno> {
        let own = OwnMounts::at(c"/nowhere");
        own.add(root.as_fd()).unwrap();
        Within::new(root.as_fd(), Some(&own)).mount_point(path, kind, links)
    }

    #[test]
    fn makes_what_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let fd = directory(root.path());
        mount_point(&fd, c"/a//b/c", NodeKind::File, LinkPolicy::Follow).unwrap();
        assert!(root.path().join("a/b/c").is_file());
        mount_point(&fd, c"a/b/d/", NodeKind::Directory, LinkPolicy::Refuse).unwrap();
        assert!(root.path().join("a/b/d").is_dir());
        mount_point(&fd, c"//e/", NodeKind::Directory, LinkPolicy::Refuse).unwrap();
        assert!(root.path().join("e").is_dir());
    }

    #[test]
    fn upwards_stays_inside() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let fd = directory(&root);
        for path in [c"new/../../../up", c"new/./../../x/../up", c"../up"] {
            mount_point(&fd, path, NodeKind::Directory, LinkPolicy::Refuse).unwrap();
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

        // An absolute link begins at the container's root. The target of this one is missing there, and is made.
        mount_point(&fd, c"absolute/x", NodeKind::Directory, LinkPolicy::Follow).unwrap();
        assert!(!outside.path().join("x").exists());
        let inside = outside.path().strip_prefix("/").unwrap();
        assert!(root.path().join(inside).join("x").is_dir());
        mount_point(&fd, c"up/x", NodeKind::Directory, LinkPolicy::Follow).unwrap();
        assert!(root.path().join("x").is_dir());
        mount_point(&fd, c"inside/y", NodeKind::Directory, LinkPolicy::Follow).unwrap();
        assert!(root.path().join("run/y").is_dir());
    }

    #[test]
    fn refuses_links_where_told() {
        let root = tempfile::tempdir().unwrap();
        let fd = directory(root.path());
        std::fs::create_dir(root.path().join("run")).unwrap();
        symlink("/run", root.path().join("proc")).unwrap();
        let refused = mount_point(&fd, c"/proc", NodeKind::Directory, LinkPolicy::Refuse);
        assert_eq!(refused.unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn a_link_to_nothing_is_made_inside() {
        let root = tempfile::tempdir().unwrap();
        let fd = directory(root.path());
        let link = |text: &str, name: &str| symlink(text, root.path().join(name)).unwrap();
        for name in ["var", "etc"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        link("../run", "var/run");
        link("../../../run/resolv/conf", "etc/conf");
        link("/to/two", "one");
        link("./three//", "to-two");
        link("loop", "loop");
        let follow = LinkPolicy::Follow;
        mount_point(&fd, c"/etc/conf", NodeKind::File, follow).unwrap();
        assert!(root.path().join("run/resolv/conf").is_file());
        mount_point(&fd, c"/var/run/x", NodeKind::File, follow).unwrap();
        assert!(root.path().join("run/x").is_file());
        mount_point(&fd, c"one/x", NodeKind::Directory, follow).unwrap();
        assert!(root.path().join("to/two/x").is_dir());
        mount_point(&fd, c"to-two", NodeKind::Directory, follow).unwrap();
        assert!(root.path().join("three").is_dir());
        for (name, links) in [(c"loop/x", follow), (c"var/run/y", LinkPolicy::Refuse)] {
            let refused = mount_point(&fd, name, NodeKind::File, links);
            assert_eq!(refused.unwrap_err(), Errno::LOOP);
        }
    }

    #[test]
    fn a_place_on_a_mount_of_somebody_else_is_refused() {
        let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let own = OwnMounts::at(c"/nowhere");
        own.add(root.as_fd()).unwrap();
        let within = Within::new(root.as_fd(), Some(&own));
        let refused = within.open(c"/proc/self/status", LinkPolicy::Follow);
        assert_eq!(refused.unwrap_err(), Errno::XDEV);
        assert!(
            Within::new(root.as_fd(), None)
                .open(c"/proc/self", LinkPolicy::Follow)
                .is_ok()
        );
    }
}
