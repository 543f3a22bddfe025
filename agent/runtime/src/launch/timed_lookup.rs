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

/// Tells whether the kernel's caches resolve the whole path (`RESOLVE_CACHED` of openat2(2)). A look-up of it then
/// waits for no file system.
#[must_use]
pub(super) fn is_at_hand(path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).is_ok()
}

/// Calls `open` in a child process, and returns the descriptor or the error that it returned there. The time counts
/// against `wait`.
///
/// # Errors
/// The child cannot be made, or the wait ended with an error. The inner error is that of `open`.
pub(super) fn open(
    wait: &mut Wait<'_>,
    open: impl FnOnce() -> Result<OwnedFd, Errno>,
) -> Result<Result<OwnedFd, Errno>, Error> {
    let failed = |errno| Error::step("clone", "new process", errno);
    let (ours, theirs) = channel::pair().map_err(failed)?;
    let pidfd = match clone(0, None, Kin::Child).map_err(refused)? {
        Side::Child => {
            // Without this, a child that hangs would outlive a launcher that is killed.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            match open() {
                Ok(opened) => drop(theirs.give_terminal(opened.as_fd())),
                Err(errno) => theirs.fail(0, errno, c""),
            }
            exit(0)
        }
        Side::Parent { pidfd, .. } => pidfd,
    };
    // The guard kills the child on every way out of this function.
    let _child = KillGuard::new(pidfd);
    drop(theirs);
    wait.until(ours.descriptor().map_err(failed)?, || {})?;
    Ok(match ours.hear().map_err(failed)? {
        ChildReport::Terminal(opened) => Ok(opened),
        ChildReport::Failed { errno, .. } => Err(errno),
        _ => Err(Errno::CHILD),
    })
}

/// Begins a wait for the look-up of a path of the host.
pub(super) fn wait_for<'a>(interrupts: &'a mut dyn Interrupts, path: &Path) -> Wait<'a> {
    Wait::new(interrupts, path.display().to_string(), PATIENCE)
}
