//! Sets the terminal of `agent run -t` raw while the container uses it, restores it afterwards, and handles the
//! container's own terminal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// Opens the terminal side of a pseudoterminal, which processes use, through its controller.
///
/// # Errors
/// TIOCGPTPEER failed (ioctl_tty(2)).
pub(crate) fn other_side(controller: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    ioctl_tiocgptpeer(controller, flags)
}

/// A terminal in raw mode. Dropping it restores the previous mode.
#[derive(Debug)]
pub(crate) struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Sets a terminal raw, so that each byte goes to the container as it is typed. The container's own terminal
    /// echoes, and makes signals of control characters.
    ///
    /// # Errors
    /// The descriptor is not a terminal.
    pub(crate) fn of(terminal: impl AsFd) -> io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        // `Now` does not wait for pending output. A terminal that is stopped (^S) would hold up this call, and signals
        // with it.
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may have gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Returns the size for the container's terminal: that of the first standard stream that is a terminal.
pub(crate) fn size() -> Option<Winsize> {
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let streams = [input.as_fd(), output.as_fd(), errors.as_fd()];
    let terminal = streams.into_iter().find(|stream| isatty(stream))?;
    tcgetwinsize(terminal).ok()
}

/// Gives the container's terminal the size of this process's terminal. Where the size changes, the kernel sends
/// SIGWINCH to the foreground processes of the container's terminal.
pub(crate) fn follow_size(container: impl AsFd) {
    if let Some(size) = size() {
        // The container may have ended.
        let _ = tcsetwinsize(container, size);
    }
}
