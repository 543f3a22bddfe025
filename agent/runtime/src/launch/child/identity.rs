//! Steps that set resource limits and ids, and give up privileges.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Gid, Signal, Uid, prlimit, set_parent_process_death_signal, umask};
use rustix::thread::{
    clear_ambient_capability_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::{Child, Done, On as _, enter};
use crate::launch::channel::LauncherMessage;

/// More capabilities than any kernel has.
const CAPABILITIES: u8 = 64;

/// Becomes root of the user namespace where that is not the launcher's. Waits first until the launcher has mapped the
/// ids of a new one.
pub(super) fn become_root<'a>(child: &mut Child<'a>) -> Done<'a> {
    umask(Mode::empty());
    let namespaces = &child.plan.namespaces;
    if namespaces.has(libc::CLONE_NEWUSER) {
        child
            .channel
            .wait_for(LauncherMessage::Mapped)
            .on(c"launcher")?;
    } else if !namespaces.joins(libc::CLONE_NEWUSER) {
        return Ok(());
    }
    let (root, group) = (Uid::ROOT, Gid::ROOT);
    // EINVAL: the map has no root. The process then keeps its id, and all capabilities in the namespace.
    match set_thread_res_gid(group, group, group) {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno).on(c"group 0"),
    }
    match set_thread_res_uid(root, root, root) {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno).on(c"user 0"),
    }
    // The change of ids has cleared the parent-death signal (`commit_creds`, kernel/cred.c).
    set_parent_process_death_signal(Some(Signal::KILL)).on(c"parent's death")
}

pub(super) fn limit<'a>(child: &mut Child<'a>) -> Done<'a> {
    for wanted in &child.plan.identity.limits {
        prlimit(None, wanted.resource, wanted.limit).on(&wanted.subject)?;
    }
    Ok(())
}

/// Changes to the command's user and groups, and keeps the capabilities until [`give_up`].
pub(super) fn become_user<'a>(child: &mut Child<'a>) -> Done<'a> {
    let identity = &child.plan.identity;
    if !identity.no_new_privileges {
        // Without no_new_privs, installing a filter needs CAP_SYS_ADMIN, which the process still has here.
        filter(child)?;
    }
    for capability in 0..CAPABILITIES {
        if identity.bounding & 1 << capability != 0 {
            continue;
        }
        match agent_sys::launch::drop_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel's last capability was the one before.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno).on(c"bounding set"),
        }
    }
    set_keep_capabilities(true).on(c"capabilities")?;
    match set_thread_groups(&identity.groups) {
        // The user namespace of an ordinary user may not set groups (setgroups is denied).
        Err(Errno::PERM) if identity.groups.is_empty() => {}
        done => done.on(c"groups")?,
    }
    let (uid, gid) = (identity.uid, identity.gid);
    set_thread_res_gid(gid, gid, gid).on(c"group")?;
    set_thread_res_uid(uid, uid, uid).on(c"user")
}

/// Leaves the process only the capabilities that the command may have. The steps after this one need no others.
pub(super) fn give_up<'a>(child: &mut Child<'a>) -> Done<'a> {
    give_up_all(child)?;
    let identity = &child.plan.identity;
    for capability in 0..CAPABILITIES {
        if identity.ambient & 1 << capability != 0 {
            agent_sys::launch::raise_ambient(capability).on(c"ambient set")?;
        }
    }
    umask(identity.umask);
    enter::hide(child).on(c"dumpable")?;
    if identity.no_new_privileges {
        filter(child)?;
    }
    Ok(())
}

/// Gives up what a reaper gives up too.
pub(super) fn give_up_all<'a>(child: &mut Child<'a>) -> Done<'a> {
    let identity = &child.plan.identity;
    clear_ambient_capability_set().on(c"ambient set")?;
    set_capabilities(None, identity.capabilities).on(c"capabilities")?;
    // The changes of credentials may have cleared the parent-death signal (`commit_creds`, kernel/cred.c).
    set_parent_process_death_signal(Some(Signal::KILL)).on(c"parent's death")?;
    if identity.no_new_privileges {
        set_no_new_privs(true).on(c"no_new_privs")?;
    }
    Ok(())
}

fn filter<'a>(child: &Child<'a>) -> Done<'a> {
    for program in child.plan.filters {
        agent_sys::seccomp::install(&program.instructions, program.flags).on(c"seccomp")?;
    }
    Ok(())
}
