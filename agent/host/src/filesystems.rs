//! The file systems of the host that its disks and its memory hold, and the I/O of their devices: statvfs(3),
//! proc_pid_mountinfo(5), `Documentation/admin-guide/iostats.rst` of the kernel.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{major, minor, stat, statvfs};

use super::Error;
use super::file::{File, number, words};
use super::mount::Mount;

/// The most file systems that are read: an engine mounts one in memory for each container.
pub const FILESYSTEMS_AT_MOST: usize = 64;

/// The types of file systems, by how their names begin. Those of a network or of a server of a user's are not among
/// them: a call may wait for their servers without end.
const TYPES: [&[u8]; 6] = [b"ext", b"xfs", b"btrfs", b"zfs", b"f2fs", b"tmpfs"];

/// A file system of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// The path of its device. A file system in memory has its mount point.
    pub device: Arc<str>,
    /// Bytes.
    pub size: u64,
    pub used: u64,
    pub inodes: u64,
    /// `None` for a layer, which has no limit of its own.
    pub inodes_free: Option<u64>,
    /// The I/O of its device; `None` where it has no device, as in memory.
    pub io: Option<DiskIo>,
}

/// A column of `/proc/diskstats`. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCount {
    Reads,
    ReadsMerged,
    SectorsRead,
    ReadTime,
    Writes,
    WritesMerged,
    SectorsWritten,
    WriteTime,
    InProgress,
    IoTime,
    WeightedIoTime,
}

/// The number of columns.
const COUNTS: usize = DiskCount::WeightedIoTime as usize + 1;

/// The I/O of one block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskIo([u64; COUNTS]);

impl DiskIo {
    pub const fn get(&self, count: DiskCount) -> u64 {
        self.0[count as usize]
    }
}

/// A file system, as a mount shows it.
#[derive(Debug)]
struct MountedFilesystem {
    device: Arc<str>,
    point: PathBuf,
    numbers: (u32, u32),
}

/// The reader of file systems. It keeps the list of mounts, and reads it again only after a change.
#[derive(Debug)]
pub struct Filesystems {
    root: PathBuf,
    mounts: Option<fs::File>,
    places: Vec<MountedFilesystem>,
    /// File systems beyond [`FILESYSTEMS_AT_MOST`].
    pub left_out: u64,
}

impl Filesystems {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            mounts: None,
            places: Vec::new(),
            left_out: 0,
        }
    }

    /// Reads all file systems. One that cannot be read is left out.
    ///
    /// # Errors
    /// The mounts or the I/O of disks cannot be read.
    pub fn read(&mut self) -> Result<Vec<Filesystem>, Error> {
        self.find()?;
        let disks = self.disks()?;
        let read = |place: &MountedFilesystem| {
            let point = below(&self.root, &place.point);
            let sizes = statvfs(&point).ok()?;
            let bytes = |blocks: u64| blocks.saturating_mul(sizes.f_frsize);
            Some(Filesystem {
                device: Arc::clone(&place.device),
                size: bytes(sizes.f_blocks),
                used: bytes(sizes.f_blocks.saturating_sub(sizes.f_bfree)),
                inodes: sizes.f_files,
                inodes_free: Some(sizes.f_ffree),
                io: disks.get(&place.numbers).copied(),
            })
        };
        Ok(self.places.iter().filter_map(read).collect())
    }

    /// Reads the list of mounts, if it has changed.
    fn find(&mut self) -> Result<(), Error> {
        let path = self.root.join("proc/self/mountinfo");
        let failed = |source| Error::new(path.clone(), source);
        let mounts = match &mut self.mounts {
            Some(mounts) if !has_changed(mounts) => return Ok(()),
            Some(mounts) => mounts,
            none => none.insert(fs::File::open(&path).map_err(failed)?),
        };
        let mut bytes = Vec::new();
        mounts.rewind().map_err(failed)?;
        mounts.read_to_end(&mut bytes).map_err(failed)?;
        let root = &self.root;
        let is_seen = |mount: &Mount| {
            let found = stat(below(root, Path::new(OsStr::from_bytes(&mount.point))));
            let found = found.map(|it| (major(it.st_dev), minor(it.st_dev))).ok();
            // btrfs has other numbers for each subvolume.
            found.is_some() && (mount.kind == b"btrfs" || found == mount.numbers())
        };
        (self.places, self.left_out) = places(&bytes, is_seen);
        Ok(())
    }

    /// The I/O of each block device, by its numbers.
    fn disks(&self) -> Result<HashMap<(u32, u32), DiskIo>, Error> {
        let file = File::read(self.root.join("proc/diskstats"));
        let file = match file {
            // A kernel without block devices.
            Err(Error::Gone { .. }) => return Ok(HashMap::new()),
            file => file?,
        };
        let disk = |line| {
            disk(line).ok_or_else(|| file.malformed(line, "MAJOR MINOR NAME and 11 numbers"))
        };
        file.lines().map(disk).collect()
    }
}

/// Whether the kernel reports a change of the mounts (proc_pid_mounts(5)).
fn has_changed(mounts: &fs::File) -> bool {
    let mut polled = [PollFd::new(mounts, PollFlags::PRI)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let reported = poll(&mut polled, Some(&now));
    reported.is_err() || polled[0].revents().contains(PollFlags::PRI)
}

/// Returns the path of `point` below `root`.
fn below(root: &Path, point: &Path) -> PathBuf {
    root.join(point.strip_prefix("/").unwrap_or(point))
}

/// Returns the file systems among the mounts, each once, and how many more there are. `is_seen` tells whether the mount
/// point leads to the mount: another mount may hide it.
fn places(mountinfo: &[u8], is_seen: impl Fn(&Mount) -> bool) -> (Vec<MountedFilesystem>, u64) {
    let mut seen = HashSet::new();
    let mut places = Vec::new();
    let mut left_out = 0;
    let lines = mountinfo.split(|&byte| byte == b'\n');
    for mount in lines.filter_map(Mount::parse) {
        let is_root = mount.point == b"/";
        let is_wanted = TYPES.iter().any(|kind| mount.kind.starts_with(kind));
        let Some(numbers) = mount.numbers().filter(|_| is_root || is_wanted) else {
            continue;
        };
        let point = Path::new(OsStr::from_bytes(&mount.point));
        let device = match mount.kind {
            b"tmpfs" => point.to_string_lossy().into_owned(),
            _ => mount.source(),
        };
        if seen.contains(&device) || !is_seen(&mount) {
            continue;
        }
        seen.insert(device.clone());
        if places.len() == FILESYSTEMS_AT_MOST {
            left_out += 1;
            continue;
        }
        places.push(MountedFilesystem {
            device: device.into(),
            point: point.to_owned(),
            numbers,
        });
    }
    (places, left_out)
}

fn disk(line: &[u8]) -> Option<((u32, u32), DiskIo)> {
    let mut words = words(line);
    let numbers = (number(words.next()?)?, number(words.next()?)?);
    let mut words = words.skip(1);
    let mut io = DiskIo::default();
    for count in &mut io.0 {
        *count = number(words.next()?)?;
    }
    Some((numbers, io))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::tree;

    const MOUNTS: &str = "\
26 1 254:2 / / rw - ext4 /dev/vda1 rw
27 1 254:1 / / rw - ext4 /dev/vda1 rw
28 27 254:1 /home /home rw - ext4 /dev/vda1 rw
29 27 0:28 / /run\\040me rw - tmpfs tmpfs rw
30 27 0:30 / /merged rw - overlay overlay rw
31 27 0:31 / /net rw - nfs4 server:/ rw
32 27 0:32 / /proc rw - proc proc rw
33 27 0:33 / /data rw - btrfs /dev/vdb rw
";

    #[test]
    fn each_is_found_once_and_none_that_may_hang() {
        let (found, left_out) =
            places(MOUNTS.as_bytes(), |mount| mount.numbers() != Some((254, 2)));
        let found: Vec<_> = found.iter().map(|it| (&*it.device, it.numbers)).collect();
        let wanted = [
            ("/dev/vda1", (254, 1)),
            ("/run me", (0, 28)),
            ("/dev/vdb", (0, 33)),
        ];
        assert_eq!(found, wanted);
        assert_eq!(left_out, 0);
        let many: String = (0..FILESYSTEMS_AT_MOST + 5)
            .map(|at| format!("{at} 1 0:{at} / /t{at} rw - tmpfs tmpfs rw\n"))
            .collect();
        let (found, left_out) = places(many.as_bytes(), |_| true);
        assert_eq!((found.len(), left_out), (FILESYSTEMS_AT_MOST, 5));
    }

    #[test]
    fn sizes_and_io() {
        let root = tree(&[("proc/self/mountinfo", ""), ("data/", "")]);
        let found = stat(root.path()).unwrap();
        let (major, minor) = (major(found.st_dev), minor(found.st_dev));
        let mounts = format!(
            "1 1 {major}:{minor} / /data rw - ext4 /dev/vda1 rw\n2 1 0:999 / /data rw - tmpfs tmpfs rw\n"
        );
        let disks = format!("   {major}  {minor} vda1 1 2 3 4 5 6 7 8 9 10 11 0 0 0 0 12 13\n");
        crate::fixture::add(
            root.path(),
            &[
                ("proc/self/mountinfo", &*mounts),
                ("proc/diskstats", &*disks),
            ],
        );
        let mut filesystems = Filesystems::new(root.path());
        for _ in 0..2 {
            let read = filesystems.read().unwrap();
            let [one] = &read[..] else {
                panic!("{read:?}");
            };
            assert_eq!(&*one.device, "/dev/vda1");
            assert!(
                one.size >= one.used && Some(one.inodes) >= one.inodes_free,
                "{one:?}"
            );
            let io = one.io.unwrap();
            assert_eq!(
                (io.get(DiskCount::Reads), io.get(DiskCount::IoTime)),
                (1, 10)
            );
        }
        crate::fixture::add(root.path(), &[("proc/diskstats", "8 0 sda 1\n")]);
        let error = filesystems.read().unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
    }
}
