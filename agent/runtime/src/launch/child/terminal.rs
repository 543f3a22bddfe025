//! Steps that set up descriptors 0, 1 and 2, which may be a terminal of the container.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, makedev, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::hide::is_of;
use super::{Child, Done, On as _};
use crate::launch::Stdio;
use crate::launch::place::{LinkPolicy, NodeKind, Within};

const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// Opens a terminal in the container's `/dev/pts`, sends its controller to the launcher, and mounts it at
/// `/dev/console`.
pub(super) fn make<'a>(child: &mut Child<'a>) -> Done<'a> {
    if !matches!(child.plan.stdio, Stdio::Terminal) {
        return Ok(());
    }
    let controller = open(child).on(c"/dev/pts/ptmx")?;
    unlockpt(&controller).on(c"/dev/pts/ptmx")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = ioctl_tiocgptpeer(&controller, flags).on(c"/dev/pts/ptmx")?;
    child
        .channel
        .give_terminal(controller.as_fd())
        .on(c"launcher")?;
    if let (Some(_), Some(dev)) = (child.container, &child.dev) {
        console(child, dev.as_fd(), terminal.as_fd()).on(c"/dev/console")?;
    }
    child.terminal = Some(terminal);
    Ok(())
}

/// Opens a controller in the container's own devpts. That is the one that this process mounted, or else the one that it
/// finds at `/dev/pts`.
fn open(child: &Child<'_>) -> Result<OwnedFd, Errno> {
    let found;
    let terminals = match &child.terminals {
        Some(terminals) => terminals,
        None => {
            let root = child.root().map_err(|failure| failure.errno)?;
            found = root.open(c"/dev/pts", LinkPolicy::Refuse)?;
            is_of(found.as_fd(), DEVPTS_SUPER_MAGIC)?;
            &found
        }
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(terminals, c"ptmx", flags, Mode::empty(), how)
}

fn console(child: &Child<'_>, dev: BorrowedFd<'_>, terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    let within = Within::new(dev, child.own.as_ref());
    let place = within.mount_point(c"console", NodeKind::File, LinkPolicy::Refuse)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    child.attach(open_tree(terminal, c"", flags)?.as_fd(), place.as_fd())
}

pub(super) fn connect<'a>(child: &mut Child<'a>) -> Done<'a> {
    if let Some(terminal) = &child.terminal {
        ioctl_tiocsctty(terminal).on(c"terminal")?;
        let (uid, gid) = (child.plan.identity.uid, None);
        // The command's user owns the terminal. A user namespace that maps one id has no other owner to give.
        match rustix::fs::fchown(terminal, Some(uid), gid) {
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err(errno).on(c"terminal"),
        }
        return duplicate([terminal, terminal, terminal]).on(c"terminal");
    }
    let nothing;
    match child.plan.stdio.files() {
        Some((Some(stdin), stdout, stderr)) => duplicate([stdin, stdout, stderr]),
        Some((None, stdout, stderr)) => {
            nothing = nothing_to_read().on(c"standard input")?;
            duplicate([&nothing, stdout, stderr])
        }
        None => Err(Errno::INVAL),
    }
    .on(c"standard streams")
}

/// Opens the container's own `/dev/null`. Where the container has none, or another file of that name, returns a pipe at
/// its end.
pub(super) fn nothing_to_read() -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(c"/", flags, Mode::empty())?;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    // The container may have put a file there whose open blocks, such as a FIFO.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match openat2(root, c"dev/null", flags, Mode::empty(), how) {
        Ok(device) if is_null(&device) => {
            rustix::fs::fcntl_setfl(&device, OFlags::empty())?;
            Ok(device)
        }
        _ => Ok(pipe_with(PipeFlags::CLOEXEC)?.0),
    }
}

fn is_null(device: &OwnedFd) -> bool {
    fstat(device).is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
            && found.st_rdev == makedev(1, 3)
    })
}

/// Makes the files descriptors 0, 1 and 2, which stay open at exec. The files have numbers above 2, so no call closes
/// one of them.
fn duplicate(files: [&OwnedFd; 3]) -> Result<(), Errno> {
    dup2_stdin(files[0])?;
    dup2_stdout(files[1])?;
    dup2_stderr(files[2])
}
