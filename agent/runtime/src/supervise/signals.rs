//! Receives the signals of the agent, and passes them on to the container.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_host::interrupts::Interrupts;
use agent_sys::fork::{catch_signals, is_ignored, send_signal};

/// The bytes of `struct signalfd_siginfo` (`include/uapi/linux/signalfd.h`), which begins with the signal's number.
const RECORD_BYTES: usize = 128;

/// The highest real-time signal.
const LAST: i32 = 64;

/// The signals that are not passed on, as in docker. Some cannot be caught, and some are about this process. SIGTTIN
/// and SIGTTOU stop a background process that uses its terminal.
const OWN: [i32; 7] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGURG,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// The signals by which a user asks for the container's end.
const ENDING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT];

/// The signals by which a user ends the wait for a container that does not run yet.
const INTERRUPTING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP];

/// The number of signals in [`ENDING`] after which the container is killed. docker has the same number.
const PATIENCE: usize = 3;

/// Signals that wait to be passed on.
#[derive(Debug)]
pub(super) struct Signals {
    descriptor: OwnedFd,
    ending: usize,
    /// Signals that came before the container ran, and are passed on first.
    kept: Vec<i32>,
    end_wanted: bool,
}

/// What the caller is to do about the signals that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing: the signals were passed on.
    None,
    /// The terminal has another size.
    Resize,
    /// The container is to be killed.
    Kill,
}

impl Signals {
    /// Blocks signals, so that they wait until they are passed on. A signal that this process was started to ignore, as
    /// by nohup(1), stays ignored.
    ///
    /// # Errors
    /// sigprocmask(2) or signalfd(2) failed.
    pub(super) fn catch() -> io::Result<Self> {
        let signals = (1..=LAST).filter(|signal| !OWN.contains(signal));
        Ok(Self {
            descriptor: catch_signals(signals)?,
            ending: 0,
            kept: Vec::new(),
            end_wanted: false,
        })
    }

    /// Tells whether a user has asked for the container's end since the last call.
    pub(super) fn end_is_wanted(&mut self) -> bool {
        std::mem::take(&mut self.end_wanted)
    }

    /// Passes the signals that came on to a process. SIGWINCH is not passed on where the container has a terminal, but
    /// becomes [`Wish::Resize`].
    ///
    /// # Errors
    /// The signals cannot be read.
    pub(super) fn pass_on(
        &mut self,
        process: BorrowedFd<'_>,
        has_terminal: bool,
    ) -> io::Result<Wish> {
        let mut wish = Wish::None;
        let kept = std::mem::take(&mut self.kept).into_iter();
        let mut kept = kept.map(Some);
        loop {
            let Some(signal) = kept
                .next()
                .flatten()
                .map_or_else(|| self.next(), |it| Ok(Some(it)))?
            else {
                return Ok(wish);
            };
            if signal == libc::SIGWINCH && has_terminal {
                wish = wish.max(Wish::Resize);
                continue;
            }
            self.ending += usize::from(ENDING.contains(&signal));
            self.end_wanted |= ENDING.contains(&signal) || signal == libc::SIGHUP;
            if self.ending >= PATIENCE {
                wish = Wish::Kill;
            }
            // The process may have ended.
            let _ = send_signal(process, signal);
        }
    }
}

impl Signals {
    /// Returns the next signal that came and is not ignored.
    fn next(&self) -> io::Result<Option<i32>> {
        let mut record = [0; RECORD_BYTES];
        loop {
            match rustix::io::read(&self.descriptor, &mut record) {
                Ok(RECORD_BYTES) => {
                    let [a, b, c, d, ..] = record;
                    let signal = i32::from_ne_bytes([a, b, c, d]);
                    if !is_ignored(signal) {
                        return Ok(Some(signal));
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Interrupts for Signals {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn ending(&mut self) -> io::Result<Option<i32>> {
        while let Some(signal) = self.next()? {
            if INTERRUPTING.contains(&signal) {
                return Ok(Some(signal));
            }
            self.kept.push(signal);
        }
        Ok(None)
    }
}

impl Wish {
    fn max(self, other: Self) -> Self {
        if self == Self::Kill { self } else { other }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
