//! Opens a terminal of a running container, from outside the container.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat2};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pty::unlockpt;

use super::Error;
use super::entry::Streams;
use super::place::{LinkPolicy, Within};
use crate::terminal::other_side;

const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
const PLACE: &str = "/dev/pts/ptmx";

/// Opens a new terminal of the container with this root, and returns its controller.
pub(super) fn open(root: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    open_in(root).map_err(|errno| Error::step("terminal", PLACE, errno))
}

fn open_in(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let terminals = Within::new(root, None).open(c"/dev/pts", LinkPolicy::Refuse)?;
    if fstatfs(&terminals)?.f_type as u64 != DEVPTS_SUPER_MAGIC {
        return Err(Errno::NODEV);
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let controller = openat2(terminals.as_fd(), c"ptmx", flags, Mode::empty(), how)?;
    unlockpt(&controller)?;
    Ok(controller)
}

/// Opens the terminal side three times, as standard input, output and error.
pub(super) fn streams(controller: BorrowedFd<'_>) -> Result<Streams, Error> {
    let open = || -> Result<_, Errno> {
        let terminal = other_side(controller)?;
        let again = || fcntl_dupfd_cloexec(&terminal, 0);
        Ok(Streams {
            input: Some(again()?),
            output: again()?,
            errors: terminal,
        })
    };
    open().map_err(|errno| Error::step("terminal", PLACE, errno))
}
