//! A private mount namespace of this process, for changes that the kernel makes only to attached mounts.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use agent_sys::launch::unshare;
use rustix::fs::{CWD, Mode, OFlags, open, openat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};
use rustix::process::{chroot, fchdir};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Error;

/// A guard. As long as it lives, this process is in a private mount namespace; afterwards it is in its former one.
///
/// The process must have one thread.
#[derive(Debug)]
pub(crate) struct PrivateMounts {
    before: Surroundings,
    left: bool,
}

#[derive(Debug)]
struct Surroundings {
    mounts: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
}

impl PrivateMounts {
    /// Enters a new mount namespace, which is a copy of the current one.
    ///
    /// # Errors
    /// The process does not have CAP_SYS_ADMIN.
    pub(crate) fn step() -> Result<Self, Error> {
        const STEP: &str = "make a mount namespace";
        let namespace = Path::new("/proc/self/ns/mnt");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let before = Surroundings {
            mounts: open(namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| Error::io("open", namespace)(errno.into()))?,
            root: openat(CWD, "/", flags, Mode::empty()).map_err(Error::mount("open /"))?,
            directory: openat(CWD, ".", flags, Mode::empty())
                .map_err(Error::mount("open the working directory"))?,
        };
        unshare(libc::CLONE_NEWNS).map_err(Error::mount(STEP))?;
        let aside = Self {
            before,
            left: false,
        };
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(Error::mount(STEP))?;
        Ok(aside)
    }

    /// Attaches a detached mount on top of `/`. It hides no file from this process, because paths that begin at `/` do
    /// not lead to it.
    pub(crate) fn attach(&self, mount: &OwnedFd) -> Result<(), Error> {
        let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(mount.as_fd(), "", CWD, "/", empty).map_err(Error::mount("attach a mount"))
    }

    /// Returns to the former mount namespace.
    pub(crate) fn leave(mut self) -> Result<(), Error> {
        self.left = true;
        self.before
            .restore()
            .map_err(Error::mount("leave a mount namespace"))
    }
}

impl Drop for PrivateMounts {
    fn drop(&mut self) {
        if !self.left {
            // The caller already has an error, and this process does nothing more than report it.
            let _ = self.before.restore();
        }
    }
}

impl Surroundings {
    /// Returns to the former mount namespace, root and working directory. setns(2) alone sets the root to that of the
    /// namespace, which may not be the former one.
    fn restore(&self) -> Result<(), Errno> {
        move_into_link_name_space(self.mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
        fchdir(&self.root)?;
        chroot(".")?;
        fchdir(&self.directory)
    }
}
