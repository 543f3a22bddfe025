//! Mounts, device nodes, and kernel settings below `/proc/sys`.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, chmodat, chownat, mknodat, openat2, symlinkat,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use super::hide::set_read_only;
use super::{Child, Done, On as _};
use crate::runtime::launch::place::{self, Kind, Links};
use crate::runtime::launch::plan::mounts::{Fresh, Mount, Node, Role, What};
use crate::sys::launch::{MountAttributes, set_mount};

/// All but those that wait for the cgroup namespace.
pub fn all<'a>(child: &mut Child<'a>) -> Done<'a> {
    for mount in &child.container()?.mounts.all {
        if mount.role() != Role::Cgroup {
            one(child, mount)?;
        }
    }
    Ok(())
}

pub fn cgroups<'a>(child: &mut Child<'a>) -> Done<'a> {
    for mount in &child.container()?.mounts.all {
        if mount.role() == Role::Cgroup {
            one(child, mount)?;
        }
    }
    if let Some(directory) = &child.hierarchies {
        set_read_only(directory.as_fd(), false).on(c"directory of cgroups")?;
    }
    Ok(())
}

fn one<'a>(child: &mut Child<'a>, mount: &'a Mount) -> Done<'a> {
    let root = child.root()?;
    match &mount.what {
        What::Bind(tree) => attach(root, tree.as_fd(), mount),
        What::Fresh(fresh) => match make(fresh) {
            Ok(made) => {
                attach(root, made.as_fd(), mount)?;
                if fresh.propagation != 0 {
                    let attributes = MountAttributes {
                        propagation: fresh.propagation,
                        ..MountAttributes::default()
                    };
                    set_mount(made.as_fd(), &attributes, false).on(&mount.target)?;
                }
                keep(child, fresh.role, made);
                Ok(())
            }
            Err(Errno::PERM) if fresh.instead.is_some() => {
                let tree = fresh
                    .instead
                    .as_ref()
                    .ok_or(Errno::PERM)
                    .on(&mount.target)?;
                attach(root, tree.as_fd(), mount)
            }
            Err(errno) => Err(errno).on(&mount.target),
        },
    }
}

fn keep(child: &mut Child<'_>, role: Role, made: OwnedFd) {
    match role {
        Role::Proc => child.proc = Some(made),
        Role::Dev => child.dev = Some(made),
        Role::Terminals => child.terminals = Some(made),
        Role::Hierarchies => child.hierarchies = Some(made),
        Role::Plain | Role::Cgroup => {}
    }
}

fn make(fresh: &Fresh) -> Result<OwnedFd, Errno> {
    if let Some(made) = &fresh.made {
        return fcntl_dupfd_cloexec(made, 0);
    }
    let context = fsopen(fresh.kind.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", fresh.source.as_c_str())?;
    for (name, value) in &fresh.options {
        match value {
            Some(value) => fsconfig_set_string(&context, name.as_c_str(), value.as_c_str())?,
            None => fsconfig_set_flag(&context, name.as_c_str())?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, fresh.attributes)
}

fn attach<'a>(root: BorrowedFd<'_>, made: BorrowedFd<'_>, mount: &'a Mount) -> Done<'a> {
    let place =
        place::mount_point(root, &mount.target, mount.kind, mount.links).on(&mount.target)?;
    attach_at(made, place.as_fd()).on(&mount.target)
}

pub(super) fn attach_at(made: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(made, c"", place, c"", flags)
}

/// Links in `/dev`: name and text.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

pub fn devices<'a>(child: &mut Child<'a>) -> Done<'a> {
    let Some(dev) = &child.dev else {
        return Ok(());
    };
    for node in &child.container()?.mounts.nodes {
        device(dev.as_fd(), node).on(&node.path)?;
    }
    for (name, text) in LINKS {
        symlinkat(text, dev, name).on(name)?;
    }
    Ok(())
}

/// In a `/dev` that the launcher has just made: nobody else has put anything there.
fn device(dev: BorrowedFd<'_>, node: &Node) -> Result<(), Errno> {
    let path = node.path.as_c_str();
    if let Some(bind) = &node.bind {
        let place = place::mount_point(dev, path, Kind::File, Links::Refuse)?;
        return attach_at(bind.as_fd(), place.as_fd());
    }
    match mknodat(dev, path, node.file_type, node.mode, node.device) {
        Err(Errno::NOENT) => {
            // It has a directory of its own: a file makes that, and gives way.
            drop(place::mount_point(dev, path, Kind::File, Links::Refuse)?);
            rustix::fs::unlinkat(dev, path, AtFlags::empty())?;
            mknodat(dev, path, node.file_type, node.mode, node.device)?;
        }
        done => done?,
    }
    if let Some((uid, gid)) = node.owner {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(dev, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    chmodat(dev, path, node.mode, AtFlags::empty())
}

pub fn settings<'a>(child: &mut Child<'a>) -> Done<'a> {
    for (path, value) in &child.container()?.sysctl {
        let proc = child.proc.as_ref().ok_or(Errno::NOENT).on(path)?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = openat2(proc, path.as_c_str(), flags, Mode::empty(), how).on(path)?;
        rustix::io::write(&file, value.to_bytes()).on(path)?;
    }
    Ok(())
}
