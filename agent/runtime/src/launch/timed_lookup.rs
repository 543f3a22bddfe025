//! Looks a path up in a child process, and gives up after a deadline. A file system whose server hangs may never
//! answer.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use agent_host::interrupts::Interrupts;
use agent_sys::launch::{Kin, Side, clone, exit};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::channel::{self, ChildReport};
use super::wait::{KillGuard, Wait};
use super::{Error, refused};

/// How long a look-up may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a path leads on without asking any file system: nothing that is looked up there waits.
#[must_use]
pub(super) fn is_at_hand(path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).is_ok()
}

/// What `open` gives in a child, within what is left of the wait.
///
/// # Errors
/// That of `open`, or of the wait.
pub(super) fn open(
    wait: &mut Wait<'_>,
    open: impl FnOnce() -> Result<OwnedFd, Errno>,
) -> Result<Result<OwnedFd, Errno>, Error> {
    let failed = |errno| Error::step("clone", "new process", errno);
    let (ours, theirs) = channel::pair().map_err(failed)?;
    let pidfd = match clone(0, None, Kin::Child).map_err(refused)? {
        Side::Child => {
            // Nobody else ends it where the launcher is killed.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            match open() {
                Ok(opened) => drop(theirs.give_terminal(opened.as_fd())),
                Err(errno) => theirs.fail(0, errno, c""),
            }
            exit(0)
        }
        Side::Parent { pidfd, .. } => pidfd,
    };
    // However this ends, it does.
    let _child = KillGuard::new(pidfd);
    drop(theirs);
    wait.until(ours.descriptor().map_err(failed)?, || {})?;
    Ok(match ours.hear().map_err(failed)? {
        ChildReport::Terminal(opened) => Ok(opened),
        ChildReport::Failed { errno, .. } => Err(errno),
        _ => Err(Errno::CHILD),
    })
}

/// A wait for a path of the host.
pub(super) fn wait_for<'a>(interrupts: &'a mut dyn Interrupts, path: &Path) -> Wait<'a> {
    Wait::new(interrupts, path.display().to_string(), PATIENCE)
}
