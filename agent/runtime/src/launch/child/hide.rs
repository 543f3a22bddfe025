//! Steps that hide paths of `/proc` and `/sys` from the container, or make them read-only.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent_host::faults::{Guard, guarded};
use agent_sys::launch::{MountAttributes, set_mount};
use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, makedev, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsmount, fsopen,
    open_tree,
};

use super::{Child, Done, On as _};
use crate::launch::place::{LinkPolicy, Within};

const SYSFS_MAGIC: u64 = 0x6265_6572;

pub(super) fn masked<'a>(child: &mut Child<'a>) -> Done<'a> {
    mask(child, &child.container()?.hidden.masked)
}

pub(super) fn read_only<'a>(child: &mut Child<'a>) -> Done<'a> {
    protect(child, &child.container()?.hidden.read_only)
}

/// Hides and protects paths in late mounts.
pub(super) fn late<'a>(child: &Child<'a>) -> Done<'a> {
    let hidden = &child.container()?.hidden_late;
    mask(child, &hidden.masked)?;
    protect(child, &hidden.read_only)
}

/// Mounts the null device over files, and an empty directory over directories.
fn mask<'a>(child: &Child<'a>, paths: &'a [CString]) -> Done<'a> {
    let mut covers = Covers::default();
    for path in paths {
        let place = match look(child, path) {
            // A path that does not exist needs no cover.
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            place => place.on(path)?,
        };
        covers.over(child, place.as_fd()).on(path)?;
    }
    Ok(())
}

/// The mounts that cover masked paths. Each is made when it is first needed.
#[derive(Default)]
struct Covers {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Covers {
    fn over(&mut self, child: &Child<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
        let is_directory = FileType::from_raw_mode(fstat(place)?.st_mode) == FileType::Directory;
        // A mount has one mount point only. So the first path gets the mount itself, and each later path a copy.
        let (cover, make): (_, fn(&Child<'_>) -> _) = if is_directory {
            (&mut self.empty, empty_directory)
        } else {
            (&mut self.null, null)
        };
        match cover {
            None => {
                let made = make(child)?;
                child.attach(made.as_fd(), place)?;
                *cover = Some(made);
                Ok(())
            }
            Some(first) => {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_EMPTY_PATH;
                child.attach(open_tree(first, c"", flags)?.as_fd(), place)
            }
        }
    }
}

/// Returns a cover for a file: the container's null device, or an empty file where the container has none.
fn null(child: &Child<'_>) -> Result<OwnedFd, Errno> {
    match null_device(child) {
        Err(Errno::NOENT | Errno::NOTDIR) => empty_file(),
        found => found,
    }
}

fn empty_file() -> Result<OwnedFd, Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(&mount, c"empty", flags, Mode::from_raw_mode(0o444))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let file = open_tree(&mount, c"empty", flags)?;
    set_read_only(file.as_fd(), false)?;
    Ok(file)
}

/// Copies the container's null device. The look-up follows no link, and the device number is checked, so that no other
/// file takes its place.
fn null_device(child: &Child<'_>) -> Result<OwnedFd, Errno> {
    let root = child.root().map_err(|failure| failure.errno)?;
    let device = root.open(c"/dev/null", LinkPolicy::Refuse)?;
    let stat = fstat(&device)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(1, 3);
    if !is_null {
        return Err(Errno::NODEV);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(&device, c"", flags)
}

fn empty_directory(_: &Child<'_>) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A file system in which the kernel shows its own data.
struct Kernels {
    /// Its mount point.
    place: &'static CStr,
    magic: u64,
}

const KERNELS: [Kernels; KERNELS_COUNT] = [
    Kernels {
        place: c"/proc",
        magic: PROC_SUPER_MAGIC as u64,
    },
    Kernels {
        place: c"/sys",
        magic: SYSFS_MAGIC,
    },
];

pub(super) const KERNELS_COUNT: usize = 2;

/// Below this path, file systems other than sysfs are mounted.
const CGROUPS: &[u8] = b"/sys/fs/cgroup";

impl Kernels {
    /// Returns the rest of a path at or below the mount point. Returns none for other paths, and for paths that contain
    /// `..`.
    fn rest<'a>(&self, path: &'a CStr) -> Option<&'a CStr> {
        let rest = path.to_bytes().strip_prefix(self.place.to_bytes())?;
        let is_below = matches!(rest.first(), None | Some(b'/'));
        let is_upwards = rest
            .split(|byte| *byte == b'/')
            .any(|name| name == b"..".as_slice());
        let length = self.place.to_bytes().len();
        let rest = path.to_bytes_with_nul().get(length..)?;
        (is_below && !is_upwards)
            .then(|| CStr::from_bytes_with_nul(rest).ok())
            .flatten()
    }
}

/// Keeps the descriptor of a mount at `/proc` or `/sys` for [`look`].
pub(super) fn keep(
    child: &mut Child<'_>,
    target: &CStr,
    mount: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let target = Path::new(OsStr::from_bytes(target.to_bytes()));
    for (kept, kernels) in child.kernels.iter_mut().zip(&KERNELS) {
        if target == Path::new(OsStr::from_bytes(kernels.place.to_bytes())) {
            *kept = Some(fcntl_dupfd_cloexec(mount, 0)?);
        }
    }
    Ok(())
}

/// Opens a path that is to be hidden or protected. A path below `/proc` or `/sys` is looked up in the mount that this
/// process made there. A process of another mount namespace may have the right to rename directories of the root. It
/// could move the mount point away, and the mount with it.
fn look(child: &Child<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let mut all = KERNELS.iter().zip(&child.kernels);
    let known = all.find_map(|(kernels, kept)| Some((kernels, kept, kernels.rest(path)?)));
    let Some((kernels, kept, rest)) = known else {
        let root = child.root().map_err(|failure| failure.errno)?;
        return root.open(path, LinkPolicy::Follow);
    };
    let place = match kept {
        Some(mount) if guarded(Guard::RootLookup) => {
            Within::new(mount.as_fd(), child.own.as_ref()).open(rest, LinkPolicy::Refuse)?
        }
        _ => {
            let root = child.root().map_err(|failure| failure.errno)?;
            root.open(path, LinkPolicy::Refuse)?
        }
    };
    // The opened file must be on the kernel's file system of that path.
    let is_in_cgroups = path.to_bytes().strip_prefix(CGROUPS);
    if !is_in_cgroups.is_some_and(|below| below.is_empty() || below.starts_with(b"/")) {
        is_of(place.as_fd(), kernels.magic)?;
    }
    Ok(place)
}

/// Checks that an opened file is on a file system of this type (`f_type` of statfs(2)).
///
/// # Errors
/// ENODEV where it is on another one.
pub(super) fn is_of(place: BorrowedFd<'_>, magic: u64) -> Result<(), Errno> {
    if fstatfs(place)?.f_type as u64 == magic {
        Ok(())
    } else {
        Err(Errno::NODEV)
    }
}

/// Makes paths read-only: mounts a read-only copy of each path over the path itself.
fn protect<'a>(child: &Child<'a>, paths: &'a [CString]) -> Done<'a> {
    for path in paths {
        let place = match look(child, path) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            place => place.on(path)?,
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(&place, c"", flags).on(path)?;
        set_read_only(tree.as_fd(), true).on(path)?;
        child.attach(tree.as_fd(), place.as_fd()).on(path)?;
    }
    Ok(())
}

pub(super) fn set_read_only(mount: BorrowedFd<'_>, recursive: bool) -> Result<(), Errno> {
    let attributes = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttributes::default()
    };
    set_mount(mount, &attributes, recursive)
}
