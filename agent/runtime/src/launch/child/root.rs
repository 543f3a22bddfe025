//! Steps that change the root.

use std::ffi::CStr;
use std::os::fd::AsFd as _;

use agent_sys::launch::{MountAttributes, set_mount};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::{Child, Done, On as _};
use crate::launch::own_mounts::OwnMounts;
use crate::order::ChangeRoot;

/// Where the root is mounted until it is the root: a directory that every host has, and in which nothing is looked up.
const PIVOT_PLACE: &CStr = c"/proc/fs";
/// Where the root is mounted when it only becomes the root by chroot: the rest of the host's tree stays in sight of
/// whoever breaks out.
const CHROOT_PLACE: &CStr = c"/tmp";

/// What is mounted from here on stays in this mount namespace.
pub(super) fn be_private<'a>(_: &mut Child<'a>) -> Done<'a> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", flags).on(c"/")
}

/// Attaches the root, so that mounts can be attached in it. It is not the root yet: once it is, the old one lies over it,
/// and every `..` that arrives there would lead to the host.
pub(super) fn attach<'a>(child: &mut Child<'a>) -> Done<'a> {
    let container = child.container()?;
    let place = match container.change_root {
        ChangeRoot::Pivot => PIVOT_PLACE,
        ChangeRoot::Chroot => CHROOT_PLACE,
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(container.root, c"", CWD, place, flags).on(place)?;
    let own = OwnMounts::at(place);
    own.add(container.root).on(c"root")?;
    child.root = Some(container.root);
    child.own = Some(own);
    Ok(())
}

/// Joins the root of a container's init process, which is not its mount namespace's after a chroot.
pub(super) fn join<'a>(child: &mut Child<'a>) -> Done<'a> {
    if let Some(root) = &child.plan.joined_root {
        fchdir(root).on(c"root")?;
        chroot(c".").on(c"root")?;
        child.root = Some(root.as_fd());
    }
    Ok(())
}

/// Enters the root, and lets go of the old one: nothing of that can be found any more. It was needed until now, since a
/// user namespace may mount `/proc` only while it sees one. No path is looked up between the two.
pub(super) fn enter<'a>(child: &mut Child<'a>) -> Done<'a> {
    let container = child.container()?;
    match container.change_root {
        ChangeRoot::Pivot => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let old = open(c"/", flags, Mode::empty()).on(c"old root")?;
            fchdir(container.root).on(c"new root")?;
            // The old root is then mounted over the new one, where nobody needs a directory for it.
            pivot_root(c".", c".").on(c"pivot_root")?;
            fchdir(&old).on(c"old root")?;
            unmount(c".", UnmountFlags::DETACH).on(c"old root")?;
        }
        ChangeRoot::Chroot => {
            fchdir(container.root).on(c"new root")?;
            chroot(c".").on(c"chroot")?;
        }
    }
    chdir(c"/").on(c"/")?;
    child.own = None;
    if container.read_only {
        // It is made while that can be; what fails is told when it is entered.
        let _ = super::execute::directory(child);
        super::hide::set_read_only(container.root, false).on(c"/")?;
    }
    if let Some(propagation) = container.propagation {
        let attributes = MountAttributes {
            propagation: propagation.kind,
            ..MountAttributes::default()
        };
        set_mount(container.root, &attributes, propagation.recursive).on(c"propagation of /")?;
    }
    Ok(())
}
