//! A new root.

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::{Child, Done, On as _};
use crate::runtime::order::ChangeRoot;

/// Where the root is mounted when it only becomes the root by chroot: the rest of the host's tree stays in sight of
/// whoever breaks out.
const CHROOT_PLACE: &std::ffi::CStr = c"/tmp";

/// What is mounted from here on stays in this mount namespace.
pub fn be_private<'a>(_: &mut Child<'a>) -> Done<'a> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", flags).on(c"/")
}

pub fn enter<'a>(child: &mut Child<'a>) -> Done<'a> {
    let container = child.container()?;
    let place = match container.change_root {
        ChangeRoot::Pivot => c"/",
        ChangeRoot::Chroot => CHROOT_PLACE,
    };
    move_mount(
        container.root,
        c"",
        CWD,
        place,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .on(place)?;
    match container.change_root {
        ChangeRoot::Pivot => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let old = open(c"/", flags, Mode::empty()).on(c"old root")?;
            fchdir(container.root).on(c"new root")?;
            // The old root is then mounted over the new one, where nobody needs a directory for it.
            pivot_root(c".", c".").on(c"pivot_root")?;
            child.old_root = Some(old);
        }
        ChangeRoot::Chroot => {
            fchdir(container.root).on(c"new root")?;
            chroot(c".").on(c"chroot")?;
        }
    }
    Ok(())
}

/// Joins the root of a container's first process, which is not its mount namespace's after a chroot.
pub fn join<'a>(child: &mut Child<'a>) -> Done<'a> {
    if let Some(root) = &child.plan.joined_root {
        fchdir(root).on(c"root")?;
        chroot(c".").on(c"root")?;
    }
    Ok(())
}

/// Lets go of the old root: nothing of it can be found any more. It was needed until now, since a user namespace may
/// mount `/proc` only while it sees one.
pub fn leave_old<'a>(child: &mut Child<'a>) -> Done<'a> {
    let container = child.container()?;
    if let Some(old) = child.old_root.take() {
        fchdir(&old).on(c"old root")?;
        unmount(c".", UnmountFlags::DETACH).on(c"old root")?;
    }
    chdir(c"/").on(c"/")?;
    if container.read_only {
        super::hide::set_read_only(container.root, false).on(c"/")?;
    }
    Ok(())
}
