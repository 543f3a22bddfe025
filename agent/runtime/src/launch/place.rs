//! Places in a root file system that nobody vouches for: mount points, and what is hidden or changed.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

pub use agent_rootfs::lookup::Links;
use rustix::fs::{Mode, OFlags, mkdirat, openat, readlinkat_raw};
use rustix::io::Errno;

use super::own::Own;
use agent_rootfs::lookup;

/// As long as the kernel takes one.
const PATH_BYTES: usize = 4096;
/// Links that lead to nothing, one to the next: as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

/// A directory in which places are looked up as if it were `/`.
#[derive(Clone, Copy, Debug)]
pub struct Within<'a> {
    root: BorrowedFd<'a>,
    /// The mounts that a place may be on, while others can be reached.
    own: Option<&'a Own>,
}

impl<'a> Within<'a> {
    pub const fn new(root: BorrowedFd<'a>, own: Option<&'a Own>) -> Self {
        Self { root, own }
    }

    /// Opens a place as a path: nothing is read or written by that.
    pub fn open(self, path: &CStr, links: Links) -> Result<OwnedFd, Errno> {
        self.open_for(path, links, OFlags::PATH)
    }

    /// Opens a place.
    pub fn open_for(self, path: &CStr, links: Links, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.own(lookup::open(self.root, relative(path), links, flags)?)
    }

    /// Opens a mount point, which is made where it is missing, with the directories that it is in. Where it is a link to
    /// nothing, that is made.
    pub fn mount_point(self, path: &CStr, kind: Kind, links: Links) -> Result<OwnedFd, Errno> {
        match self.open(path, links) {
            Err(Errno::NOENT) => self.make(path, kind, links),
            done => done,
        }
    }

    /// A place that is not on the container's own mounts is the host's.
    fn own(self, place: OwnedFd) -> Result<OwnedFd, Errno> {
        if let Some(own) = self.own {
            own.check(place.as_fd())?;
        }
        Ok(place)
    }

    fn make(self, path: &CStr, kind: Kind, links: Links) -> Result<OwnedFd, Errno> {
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
                Ok(_) if links == Links::Refuse => return Err(Errno::LOOP),
                Ok(length) => {
                    let target = target.get(..length).ok_or(Errno::NAMETOOLONG)?;
                    text = text.with_link(start, end, target)?;
                }
                // EINVAL: somebody has just made it.
                Err(Errno::NOENT | Errno::INVAL) => {
                    return self.make_from(parent, &text, there, kind, links);
                }
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::LOOP)
    }

    /// The deepest directory on the way to a place that is there, and where its path ends. The root is none.
    fn deepest(self, text: &Text, links: Links) -> Result<(Option<OwnedFd>, usize), Errno> {
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

    /// Makes what is missing from `there` on, where nothing is yet.
    fn make_from(
        self,
        mut parent: Option<OwnedFd>,
        text: &Text,
        mut there: usize,
        kind: Kind,
        links: Links,
    ) -> Result<OwnedFd, Errno> {
        while let Some((start, end)) = text.component(there) {
            let is_last = text.component(end).is_none();
            let kind = if is_last { kind } else { Kind::Directory };
            let made = match text.slice(start, end) {
                // From the root on: upwards must not lead out of it.
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

/// The same path without the slashes in front: it begins at the root that it is looked up in.
fn relative(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or(0);
    match bytes.get(start..).map(CStr::from_bytes_with_nul) {
        Some(Ok(relative)) if !relative.is_empty() => relative,
        _ => c".",
    }
}

/// A path of no more than the kernel takes, with a NUL behind it.
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

    /// Where the next name begins and ends, from `from` on.
    fn component(&self, from: usize) -> Option<(usize, usize)> {
        let rest = self.bytes().get(from..)?;
        let start = from + rest.iter().position(|byte| *byte != b'/')?;
        let name = self.bytes().get(start..)?;
        let length = name.iter().position(|byte| *byte == b'/');
        Some((start, start + length.unwrap_or(name.len())))
    }

    /// With what a link says in its place, which is the name from `start` to `end`.
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
        kind: Kind,
        links: Links,
    ) -> Result<OwnedFd, Errno> {
        let own = Own::at(c"/nowhere");
        own.add(root.as_fd()).unwrap();
        Within::new(root.as_fd(), Some(&own)).mount_point(path, kind, links)
    }

    #[test]
    fn makes_what_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let fd = directory(root.path());
        mount_point(&fd, c"/a//b/c", Kind::File, Links::Follow).unwrap();
        assert!(root.path().join("a/b/c").is_file());
        mount_point(&fd, c"a/b/d/", Kind::Directory, Links::Refuse).unwrap();
        assert!(root.path().join("a/b/d").is_dir());
        mount_point(&fd, c"//e/", Kind::Directory, Links::Refuse).unwrap();
        assert!(root.path().join("e").is_dir());
    }

    #[test]
    fn upwards_stays_inside() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let fd = directory(&root);
        for path in [c"new/../../../up", c"new/./../../x/../up", c"../up"] {
            mount_point(&fd, path, Kind::Directory, Links::Refuse).unwrap();
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

        // Absolute links are the root's own. This one leads to nothing there, which is made.
        mount_point(&fd, c"absolute/x", Kind::Directory, Links::Follow).unwrap();
        assert!(!outside.path().join("x").exists());
        let inside = outside.path().strip_prefix("/").unwrap();
        assert!(root.path().join(inside).join("x").is_dir());
        mount_point(&fd, c"up/x", Kind::Directory, Links::Follow).unwrap();
        assert!(root.path().join("x").is_dir());
        mount_point(&fd, c"inside/y", Kind::Directory, Links::Follow).unwrap();
        assert!(root.path().join("run/y").is_dir());
    }

    #[test]
    fn refuses_links_where_told() {
        let root = tempfile::tempdir().unwrap();
        let fd = directory(root.path());
        std::fs::create_dir(root.path().join("run")).unwrap();
        symlink("/run", root.path().join("proc")).unwrap();
        let refused = mount_point(&fd, c"/proc", Kind::Directory, Links::Refuse);
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
        let follow = Links::Follow;
        mount_point(&fd, c"/etc/conf", Kind::File, follow).unwrap();
        assert!(root.path().join("run/resolv/conf").is_file());
        mount_point(&fd, c"/var/run/x", Kind::File, follow).unwrap();
        assert!(root.path().join("run/x").is_file());
        mount_point(&fd, c"one/x", Kind::Directory, follow).unwrap();
        assert!(root.path().join("to/two/x").is_dir());
        mount_point(&fd, c"to-two", Kind::Directory, follow).unwrap();
        assert!(root.path().join("three").is_dir());
        for (name, links) in [(c"loop/x", follow), (c"var/run/y", Links::Refuse)] {
            let refused = mount_point(&fd, name, Kind::File, links);
            assert_eq!(refused.unwrap_err(), Errno::LOOP);
        }
    }

    #[test]
    fn a_place_on_a_mount_of_somebody_else_is_refused() {
        let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let own = Own::at(c"/nowhere");
        own.add(root.as_fd()).unwrap();
        let within = Within::new(root.as_fd(), Some(&own));
        let refused = within.open(c"/proc/self/status", Links::Follow);
        assert_eq!(refused.unwrap_err(), Errno::XDEV);
        assert!(
            Within::new(root.as_fd(), None)
                .open(c"/proc/self", Links::Follow)
                .is_ok()
        );
    }
}
