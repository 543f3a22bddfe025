//! A terminal of a test's own.

use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

/// Both sides of a terminal.
#[derive(Debug)]
pub struct Pty {
    pub controller: OwnedFd,
    pub terminal: OwnedFd,
}

impl Pty {
    /// # Panics
    /// Where no terminal is to be had.
    #[must_use]
    pub fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags).expect("a terminal");
        unlockpt(&controller).expect("a terminal");
        let terminal = ioctl_tiocgptpeer(&controller, flags).expect("a terminal");
        Self {
            controller,
            terminal,
        }
    }
}

impl Default for Pty {
    fn default() -> Self {
        Self::new()
    }
}
