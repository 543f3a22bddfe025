//! Steps that attach and enter the root file system.

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

/// Where the root is mounted before pivot_root(2): a directory that every host has, and in which no path is looked up.
const PIVOT_PLACE: &CStr = c"/proc/fs";
/// Where the root is mounted before chroot(2). The rest of the host's file tree stays visible to a process that breaks
/// out.
const CHROOT_PLACE: &CStr = c"/tmp";

/// Makes all mounts private, so that later mounts stay in this mount namespace.
pub(super) fn be_private<'a>(_: &mut Child<'a>) -> Done<'a> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", flags).on(c"/")
}

/// Attaches the root, so that mounts can be attached in it. The process does not enter it yet. After pivot_root(2), the
/// old root is mounted over the new one, and every `..` that arrives there would lead to the host.
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

/// Changes to the root of the container's init process. After a chroot(2), that is not the root of its mount namespace.
pub(super) fn join<'a>(child: &mut Child<'a>) -> Done<'a> {
    if let Some(root) = &child.plan.joined_root {
        fchdir(root).on(c"root")?;
        chroot(c".").on(c"root")?;
        child.root = Some(root.as_fd());
    }
    Ok(())
}

/// Enters the root, and detaches the old one, whose files can no longer be found. It was needed until now, because a
/// user namespace may mount `/proc` only while another one is visible. No path is looked up between pivot_root(2) and
/// the detaching.
pub(super) fn enter<'a>(child: &mut Child<'a>) -> Done<'a> {
    let container = child.container()?;
    match container.change_root {
        ChangeRoot::Pivot => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let old = open(c"/", flags, Mode::empty()).on(c"old root")?;
            fchdir(container.root).on(c"new root")?;
            // pivot_root(2) mounts the old root over the new one, so it needs no directory for the old root.
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
        // The working directory is made while the root is still writable. The step `workdir` reports an error.
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
