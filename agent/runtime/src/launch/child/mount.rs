//! Steps that mount file systems and make device nodes.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use agent_sys::launch::{MountAttributes, set_mount};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Uid, chownat, mkdirat, mknodat, openat, symlinkat,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};
use rustix::process::fchdir;

use super::hide::set_read_only;
use super::{Child, Done, On as _};
use crate::launch::place::{LinkPolicy, NodeKind, Within};
use crate::launch::plan::mounts::{Fresh, Hierarchy, Mount, Node, OwnCgroup, Role, What};

/// Makes all mounts except those that wait for the cgroup namespace.
pub(super) fn all<'a>(child: &mut Child<'a>) -> Done<'a> {
    let mounts = child.container()?.mounts.all.iter();
    mounts
        .filter(|mount| !mount.late)
        .try_for_each(|mount| one(child, mount))
}

/// Makes the mounts that waited for the cgroup namespace, and hides paths in them.
pub(super) fn late<'a>(child: &mut Child<'a>) -> Done<'a> {
    let mounts = child.container()?.mounts.all.iter();
    mounts
        .filter(|mount| mount.late)
        .try_for_each(|mount| one(child, mount))?;
    if let Some(directory) = &child.hierarchies {
        set_read_only(directory.as_fd(), false).on(c"directory of cgroups")?;
    }
    super::hide::late(child)
}

fn one<'a>(child: &mut Child<'a>, mount: &'a Mount) -> Done<'a> {
    if let (Some(directory), Some(hierarchy)) = (&child.hierarchies, &mount.hierarchy) {
        return hierarchy_in(child, directory.as_fd(), mount, hierarchy).on(&mount.target);
    }
    match &mount.what {
        What::Bind(tree) => attach(child, tree.as_fd(), mount),
        What::Cgroup(own) => {
            let tree = own_cgroup(own).on(&own.directory)?;
            attach(child, tree.as_fd(), mount)
        }
        What::Fresh(fresh) => match make(fresh) {
            Ok(made) => {
                attach(child, made.as_fd(), mount)?;
                if fresh.propagation != 0 {
                    let attributes = MountAttributes {
                        propagation: fresh.propagation,
                        ..MountAttributes::default()
                    };
                    set_mount(made.as_fd(), &attributes, false).on(&mount.target)?;
                }
                if fresh.role == Role::Dev {
                    devices(child, made.as_fd())?;
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
                attach(child, tree.as_fd(), mount)
            }
            Err(errno) => Err(errno).on(&mount.target),
        },
    }
}

/// Mounts a cgroup hierarchy in the directory of hierarchies, in a new directory of its own. No other process has put
/// anything there since the directory of hierarchies was made.
fn hierarchy_in(
    child: &Child<'_>,
    directory: BorrowedFd<'_>,
    mount: &Mount,
    hierarchy: &Hierarchy,
) -> Result<(), Errno> {
    let name = hierarchy.name.as_c_str();
    mkdirat(directory, name, Mode::from_raw_mode(0o755))?;
    let fresh = match &mount.what {
        What::Fresh(fresh) => fresh,
        What::Cgroup(own) => {
            let tree = own_cgroup(own)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let place = openat(directory, name, flags, Mode::empty())?;
            return child.attach(tree.as_fd(), place.as_fd());
        }
        What::Bind(_) => return Err(Errno::INVAL),
    };
    fchdir(directory)?;
    let kind = fresh.kind.as_c_str();
    let options = hierarchy.options.as_c_str();
    rustix::mount::mount(kind, name, kind, hierarchy.flags, options)
}

/// Copies the mount of the container's cgroup from the host's file tree, which can be reached until the step `leave`.
fn own_cgroup(own: &OwnCgroup) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, own.directory.as_c_str(), flags)?;
    set_mount(tree.as_fd(), &own.attributes, false)?;
    Ok(tree)
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

fn attach<'a>(child: &mut Child<'a>, made: BorrowedFd<'_>, mount: &'a Mount) -> Done<'a> {
    let root = child.root()?;
    let place = root.mount_point(&mount.target, mount.kind, mount.links);
    let place = place.on(&mount.target)?;
    child.attach(made, place.as_fd()).on(&mount.target)?;
    super::hide::keep(child, &mount.target, made).on(&mount.target)
}

/// The links in `/dev`: name and target.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

/// Fills a new `/dev` before anything is mounted in it, while no other process has put anything there.
fn devices<'a>(child: &Child<'a>, dev: BorrowedFd<'_>) -> Done<'a> {
    for node in &child.container()?.mounts.nodes {
        device(child, dev, node).on(&node.path)?;
    }
    for (name, text) in LINKS {
        symlinkat(text, dev, name).on(name)?;
    }
    Ok(())
}

fn device(child: &Child<'_>, dev: BorrowedFd<'_>, node: &Node) -> Result<(), Errno> {
    let path = node.path.as_c_str();
    let within = Within::new(dev, child.own.as_ref());
    if let Some(bind) = &node.bind {
        let place = within.mount_point(path, NodeKind::File, LinkPolicy::Refuse)?;
        return child.attach(bind.as_fd(), place.as_fd());
    }
    match mknodat(dev, path, node.file_type, node.mode, node.device) {
        Err(Errno::NOENT) => {
            // The node's parent directories are missing. Making a file makes them, and the node then replaces the file.
            drop(within.mount_point(path, NodeKind::File, LinkPolicy::Refuse)?);
            rustix::fs::unlinkat(dev, path, AtFlags::empty())?;
            mknodat(dev, path, node.file_type, node.mode, node.device)?;
        }
        done => done?,
    }
    if let Some((uid, gid)) = node.owner {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(dev, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}
