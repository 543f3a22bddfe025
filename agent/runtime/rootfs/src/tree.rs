//! Makes detached mounts of directories and of tmpfs.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use agent_sys::launch::{MountAttributes, set_mount};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::Error;
use super::private_mounts::PrivateMounts;
use crate::lookup::{self, LinkPolicy};

/// The mount options of a tmpfs, as names and values.
pub(crate) type TmpfsOptions<'a> = &'a [(&'a str, &'a str)];

/// The options of a tmpfs for programs and what they write.
pub(crate) const FOR_PROGRAMS: TmpfsOptions<'static> = &[("mode", "0755")];

/// The directories that are empty, and the container's own, in a mount of the host's root. The host's contain files in
/// use and the sockets of services. A read-only mount would let the container connect to those.
const OWN: [(&str, TmpfsOptions<'static>); 3] = [
    ("tmp", &[("mode", "1777")]),
    ("run", &[("mode", "0755")]),
    ("var/tmp", &[("mode", "1777")]),
];

/// Returns a detached mount of a directory, with all mounts below it. A symbolic link to a directory is refused,
/// because it could be there to lead to the host's files. With `is_slave`, the container also sees what the host mounts
/// there later.
///
/// # Errors
/// The path does not exist, or is not a directory.
pub(crate) fn of_directory(path: &Path, is_slave: bool) -> Result<OwnedFd, Error> {
    const WANTED: &str = "--rootfs wants a directory with a root file system, or `host`";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // With a slash at the end of the path, openat(2) would follow a link.
    let path: &Path = &path.components().collect::<PathBuf>();
    let directory = openat(CWD, path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOTDIR if path.is_symlink() => Error::Other {
            path: path.to_owned(),
            wanted: "a directory, but a symbolic link; name the directory itself",
        },
        Errno::NOENT => Error::Missing {
            path: path.to_owned(),
            wanted: WANTED,
        },
        Errno::NOTDIR => Error::Other {
            path: path.to_owned(),
            wanted: "a directory; --image takes archives of images",
        },
        errno => Error::io("open", path)(errno.into()),
    })?;
    let tree = copy(&directory)?;
    let propagation = if is_slave {
        libc::MS_SLAVE
    } else {
        libc::MS_PRIVATE
    };
    set(&tree, MountAttrFlags::MOUNT_ATTR_NODEV, propagation)?;
    Ok(tree)
}

/// Forbids to open devices on a detached mount, and makes the mount private.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn forbid_devices(tree: &OwnedFd) -> Result<(), Error> {
    set(tree, MountAttrFlags::MOUNT_ATTR_NODEV, libc::MS_PRIVATE)
}

/// Returns a detached mount of the host's root. Only the container's own directories ([`OWN`]) can be written to.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn of_host() -> Result<OwnedFd, Error> {
    let aside = PrivateMounts::step()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty()).map_err(Error::mount("open /"))?;
    let tree = copy(&root)?;
    set(
        &tree,
        MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_RDONLY,
        libc::MS_PRIVATE,
    )?;
    aside.attach(&tree)?;
    for (path, options) in OWN {
        cover(&tree, path, options)?;
    }
    let tree = copy(&tree)?;
    aside.leave()?;
    Ok(tree)
}

/// Mounts an empty tmpfs over a directory of the mount, if that exists.
fn cover(tree: &OwnedFd, path: &str, options: TmpfsOptions<'_>) -> Result<(), Error> {
    const STEP: &str = "cover a directory of the host";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match lookup::open(tree.as_fd(), path, LinkPolicy::Follow, flags) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(Error::mount(STEP))?,
    };
    let mount = empty(options)?;
    let ends = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount.as_fd(), "", directory.as_fd(), "", ends).map_err(Error::mount(STEP))
}

/// Returns a detached mount of a new tmpfs.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn empty(options: TmpfsOptions<'_>) -> Result<OwnedFd, Error> {
    let made = || {
        let system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (name, value) in options {
            fsconfig_set_string(system.as_fd(), *name, *value)?;
        }
        fsconfig_create(system.as_fd())?;
        fsmount(
            system.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_NODEV,
        )
    };
    made().map_err(Error::mount("make a tmpfs"))
}

/// Returns a detached bind mount of a directory, with all mounts below it.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn copy(directory: &OwnedFd) -> Result<OwnedFd, Error> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(directory, "", flags).map_err(Error::mount("copy a mount (open_tree)"))
}

/// Sets the attributes and the propagation of a mount, and of all mounts below it. What a container mounts there is not
/// seen elsewhere. Where the mount is private, what others mount is not seen there either.
fn set(tree: &OwnedFd, attributes: MountAttrFlags, propagation: u64) -> Result<(), Error> {
    let attributes = MountAttributes {
        set: u64::from(attributes.bits()),
        clear: 0,
        propagation,
    };
    set_mount(tree.as_fd(), &attributes, true).map_err(Error::mount("change a mount"))
}
