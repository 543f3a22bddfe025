//! The writable layer of a container whose root is an overlay, and the space that it takes.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, fstatvfs, openat, statat,
};
use rustix::io::Errno;

use super::Error;
use super::file::File;
use super::mount::Mount;
use super::process::Process;

/// The most entries of one layer that are looked at.
const ENTRIES_AT_MOST: u64 = 1_000_000;

/// The deepest directory that is looked at. Each level has an open descriptor.
const DEPTH_AT_MOST: usize = 256;

/// After this many entries the walk pauses, so that it takes at most a part of a disk's time.
const ENTRIES_AT_ONCE: u64 = 1000;
const PAUSE: Duration = Duration::from_millis(10);

/// `st_blocks` has this unit, whatever the file system's own is.
const BLOCK: u64 = 512;

/// The space that a layer takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerSize {
    /// Bytes on the disk.
    pub bytes: u64,
    pub inodes: u64,
}

/// A layer and its file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The path of the device, as the host's mounts have it.
    pub device: String,
    /// The size of the file system in bytes.
    pub limit: u64,
    /// `None`: the layer has more entries or levels than are looked at.
    pub size: Option<LayerSize>,
}

/// Returns the writable layer of the container with this init process. Returns `None` where its root is no overlay with
/// one, or the path is not absolute.
///
/// # Errors
/// [`Error::Gone`] where that process has ended. Otherwise its mounts cannot be read.
pub fn of_process(root: &Path, pid: u32, start_time: u64) -> Result<Option<PathBuf>, Error> {
    let process = Process::new(root, pid);
    let file = File::read(process.path("mountinfo"))?;
    process.is_of(Some(start_time))?;
    let mounts = file.lines().filter_map(Mount::parse);
    // Of mounts over each other, the last is seen.
    let last = mounts.filter(|mount| mount.point == b"/").last();
    let layer = last.filter(|mount| mount.kind == b"overlay");
    let layer = layer.and_then(|mount| mount.option(b"upperdir="));
    let layer = layer.map(|path| PathBuf::from(OsString::from_vec(path)));
    Ok(layer.filter(|path| path.is_absolute()))
}

/// Measures a layer: every entry below `path` on its file system, a file with several names once. It takes as long as
/// the disk does. `stop` ends it early.
///
/// # Errors
/// The layer, or the mounts of this process, cannot be read.
pub fn measure(root: &Path, path: &Path, stop: &dyn Fn() -> bool) -> Result<Measured, Error> {
    let failed = |errno: Errno| Error::new(path.to_owned(), errno.into());
    let directory = openat(CWD, path, DIRECTORY, Mode::empty()).map_err(failed)?;
    let sizes = fstatvfs(&directory).map_err(failed)?;
    Ok(Measured {
        device: device_below(root, path)?,
        limit: sizes.f_blocks.saturating_mul(sizes.f_frsize),
        size: walk(directory, stop).map_err(failed)?,
    })
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Returns the device of the mount that shows `path`.
fn device_below(root: &Path, path: &Path) -> Result<String, Error> {
    let file = File::read(root.join("proc/self/mountinfo"))?;
    let mounts = file.lines().filter_map(Mount::parse);
    let above = mounts.filter(|mount| path.starts_with(OsStr::from_bytes(&mount.point)));
    let nearest = above.max_by_key(|mount| mount.point.len());
    Ok(nearest.map_or_else(String::new, |mount| mount.source()))
}

/// The state of a walk.
struct LayerWalk<'a> {
    device: u64,
    seen: u64,
    size: LayerSize,
    /// The inodes of files with several names.
    linked: HashSet<u64>,
    stop: &'a dyn Fn() -> bool,
}

/// Walks through a directory. No link is followed, so nothing outside of it is looked at.
fn walk(top: OwnedFd, stop: &dyn Fn() -> bool) -> Result<Option<LayerSize>, Errno> {
    let found = fstat(&top)?;
    let mut walk = LayerWalk {
        device: found.st_dev,
        seen: 0,
        size: LayerSize::default(),
        linked: HashSet::new(),
        stop,
    };
    walk.add(&found);
    let mut open = vec![Dir::new(top)?];
    while let Some(directory) = open.last_mut() {
        let Some(entry) = directory.read() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if !walk.goes_on() {
            return Ok(None);
        }
        // An entry that is removed meanwhile is not counted.
        let Ok(found) = statat(directory.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if found.st_dev != walk.device {
            continue;
        }
        walk.add(&found);
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            continue;
        }
        let Ok(below) = openat(directory.fd()?, name, DIRECTORY, Mode::empty()) else {
            continue;
        };
        if open.len() == DEPTH_AT_MOST {
            return Ok(None);
        }
        open.push(Dir::new(below)?);
    }
    Ok(Some(walk.size))
}

impl LayerWalk<'_> {
    fn add(&mut self, found: &Stat) {
        if found.st_nlink > 1
            && FileType::from_raw_mode(found.st_mode) != FileType::Directory
            && !self.linked.insert(found.st_ino)
        {
            return;
        }
        self.size.bytes += u64::try_from(found.st_blocks).unwrap_or_default() * BLOCK;
        self.size.inodes += 1;
    }

    /// Counts an entry, and pauses now and then. Returns false where the walk is to end.
    fn goes_on(&mut self) -> bool {
        self.seen += 1;
        if self.seen.is_multiple_of(ENTRIES_AT_ONCE) {
            sleep(PAUSE);
        }
        self.seen <= ENTRIES_AT_MOST && !(self.stop)()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::fixture::tree;

    const STAT: &str = "7 (a) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 10\n";

    #[test]
    fn the_layer_is_that_of_the_root() {
        for (mounts, wanted) in [
            (
                "1 2 0:5 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/up\\040me,workdir=/w\n",
                Some("/up me"),
            ),
            ("1 2 0:5 / / rw - overlay overlay rw,lowerdir=/l\n", None),
            ("1 2 0:5 / / rw - overlay overlay rw,upperdir=l/up\n", None),
            ("1 2 0:5 / / rw - ext4 /dev/vda rw,upperdir=/up\n", None),
            (
                "1 2 0:5 / /data rw - overlay overlay rw,upperdir=/up\n",
                None,
            ),
            (
                "1 2 0:5 / / rw - overlay overlay rw,upperdir=/up\n2 1 0:6 / / rw - tmpfs none rw\n",
                None,
            ),
        ] {
            let root = tree(&[("proc/7/mountinfo", mounts), ("proc/7/stat", STAT)]);
            let found = of_process(root.path(), 7, 7_770_000_000).unwrap();
            assert_eq!(found.as_deref(), wanted.map(Path::new), "{mounts}");
            let other = of_process(root.path(), 7, 8_000_000_000);
            assert!(matches!(other, Err(Error::Gone { .. })), "{other:?}");
        }
    }

    #[test]
    fn a_file_with_two_names_counts_once_and_links_lead_nowhere() {
        let root = tree(&[
            ("layer/a/file", "x".repeat(1 << 20)),
            ("layer/b/c/other", "y".to_owned()),
            ("outside/file", "z".repeat(1 << 20)),
            (
                "proc/self/mountinfo",
                "1 1 0:1 / / rw - ext4 /dev/vda rw\n".to_owned(),
            ),
        ]);
        let layer = root.path().join("layer");
        fs::hard_link(layer.join("a/file"), layer.join("b/again")).unwrap();
        symlink("../../outside", layer.join("b/link")).unwrap();
        let measured = measure(root.path(), &layer, &|| false).unwrap();
        assert_eq!(measured.device, "/dev/vda");
        let size = measured.size.unwrap();
        // layer, a, a/file, b, b/c, b/c/other, b/link.
        assert_eq!(size.inodes, 7);
        assert!(
            size.bytes >= 1 << 20 && size.bytes < (1 << 20) + (1 << 18),
            "{size:?}"
        );
        let stopped = measure(root.path(), &layer, &|| true).unwrap();
        assert_eq!(stopped.size, None);
        let gone = measure(root.path(), &layer.join("none"), &|| false);
        assert!(matches!(gone, Err(Error::Gone { .. })), "{gone:?}");
    }

    #[test]
    fn what_is_too_deep_is_unknown() {
        let root = tree(&[("proc/self/mountinfo", "")]);
        let mut path = root.path().to_owned();
        for _ in 0..DEPTH_AT_MOST {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        let measured = measure(root.path(), root.path(), &|| false).unwrap();
        assert_eq!(measured.size, None);
    }
}
