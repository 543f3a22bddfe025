//! Mounts the `/proc` of a pid namespace that the container joins. The launcher makes the mount from outside that
//! namespace.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use agent_host::interrupts::Interrupts;
use agent_host::pinned::Pinned;
use agent_sys::launch::{MountAttributes, enter, set_mount};
use rustix::fs::{PROC_SUPER_MAGIC, fstat, fstatfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};
use rustix::process::{chroot, fchdir};

use crate::launch::place::{LinkPolicy, Within};
use crate::launch::plan::namespaces::Join;
use crate::launch::wait::Wait;
use crate::launch::{Error, timed_lookup};

/// The subject of the wait for a member's `/proc`, whose root may be on a file system that hangs.
const WHAT: &str = "/proc of the pid namespace that is joined";

/// The inode number of the root of a `/proc` (`PROC_ROOT_INO`, `include/linux/proc_fs.h`).
const ROOT_INODE: u64 = 1;

type Options = [(CString, Option<CString>)];

/// Returns a detached mount of a `/proc` that shows this namespace.
pub(super) fn proc(
    join: &Join,
    options: &Options,
    attributes: MountAttributes,
    interrupts: &mut dyn Interrupts,
) -> Result<OwnedFd, Error> {
    let namespace = join.namespace.as_fd();
    // Linux has the option since 6.18. It needs rights over the namespace.
    let refused = match by_option(namespace, options, attributes) {
        Ok(made) => return Ok(made),
        Err(errno) => std::io::Error::from(errno),
    };
    let shown = agent_host::launch::namespace_name(namespace);
    if !shown.starts_with("pid:[") {
        let subject = join.subject.to_string_lossy();
        return Err(Error::step("join", subject, Errno::INVAL));
    }
    let mut wait = Wait::new(interrupts, WHAT, timed_lookup::PATIENCE);
    for pid in agent_host::launch::members_of_pids(&shown) {
        match of_member(pid, &shown, &mut wait) {
            Ok(tree) => {
                set_mount(tree.as_fd(), &attributes, false)
                    .map_err(|errno| Error::step("mount", "/proc", errno))?;
                return Ok(tree);
            }
            Err(ended @ (Error::Interrupted { .. } | Error::Late { .. })) => return Err(ended),
            // Another process of the namespace may have a `/proc` that can be copied.
            Err(_) => {}
        }
    }
    Err(Error::invalid(format!(
        "/proc: the kernel does not mount that of {}, which is joined ({refused}), and no process there has it at /proc; \
         leave the mount out, or use Linux 6.18",
        join.subject.to_string_lossy()
    )))
}

/// Mounts a new `/proc`, and names the namespace with the option `pidns`.
fn by_option(
    namespace: BorrowedFd<'_>,
    options: &Options,
    attributes: MountAttributes,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_fd(&context, c"pidns", namespace)?;
    for (name, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, name.as_c_str(), value.as_c_str())?,
            None => fsconfig_set_flag(&context, name.as_c_str())?,
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes.set as u32);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Copies the mount that a process of the namespace has at `/proc`, and checks that it shows the namespace. Only a
/// process in the same mount namespace may copy it. So a child joins that mount namespace, where no process of the pid
/// namespace sees it.
fn of_member(
    pid: rustix::process::Pid,
    shown: &str,
    wait: &mut Wait<'_>,
) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::step("mount", "/proc", errno);
    let member = Pinned::open(pid.as_raw_nonzero().get()).ok_or_else(|| failed(Errno::SRCH))?;
    let (kinds, root) = agent_host::launch::surroundings(&member)?;
    let kinds = kinds & (libc::CLONE_NEWNS | libc::CLONE_NEWUSER);
    let namespaces = agent_host::launch::namespaces(&member, kinds)?;
    let tree = timed_lookup::open(wait, || copy(&namespaces, root.as_fd()))?.map_err(failed)?;
    // In a `/proc` that shows this namespace, the process has the pid that it has inside.
    let link = format!("{}/ns/pid", agent_host::launch::number_inside(pid)?);
    let is_it = agent_host::launch::name_at(tree.as_fd(), &link).is_some_and(|it| it == shown);
    if is_it {
        Ok(tree)
    } else {
        Err(failed(Errno::XDEV))
    }
}

fn copy(namespaces: &[(OwnedFd, i32)], root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    for (namespace, kind) in namespaces {
        enter(namespace.as_fd(), *kind)?;
    }
    fchdir(root)?;
    chroot(c".")?;
    let proc = Within::new(root, None).open(PROC, LinkPolicy::Refuse)?;
    if fstatfs(&proc)?.f_type as u64 != PROC_SUPER_MAGIC as u64
        || fstat(&proc)?.st_ino != ROOT_INODE
    {
        return Err(Errno::NODEV);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(&proc, c"", flags)
}

const PROC: &CStr = c"/proc";

#[cfg(test)]
mod tests {
    use agent_sys::threads::fixture::holds_in_copy;

    use super::*;
    use crate::launch::wait::tests::Silent;

    /// This process stands for the member, which needs no rights over another process.
    #[test]
    #[ignore = "needs root"]
    fn a_member_s_proc_is_copied_and_another_s_is_not_taken_for_it() {
        let own = rustix::process::getpid();
        let namespace = agent_host::launch::own_namespace("pid").unwrap();
        let shown = agent_host::launch::namespace_name(namespace.as_fd());
        let members: Vec<_> = agent_host::launch::members_of_pids(&shown).collect();
        assert!(members.contains(&own), "{shown}");
        let mut silent = Silent::new();
        let mut wait = Wait::new(&mut silent, WHAT, timed_lookup::PATIENCE);
        assert!(holds_in_copy(|| {
            let copied = of_member(own, &shown, &mut wait)
                .and_then(|tree| fstat(&tree).map_err(|errno| Error::step("fstat", "copy", errno)));
            copied.is_ok_and(|copied| copied.st_ino == ROOT_INODE)
                && of_member(own, "pid:[1]", &mut wait).is_err()
        }));
    }
}
