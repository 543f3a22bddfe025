//! Receives the signals of the agent, and passes them on to the container.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_host::interrupts::Interrupts;
use agent_sys::fork::{catch_signals, is_ignored, send_signal};

/// `struct signalfd_siginfo` (`include/uapi/linux/signalfd.h`), of which the number comes first.
const RECORD_BYTES: usize = 128;

/// The last of the real-time signals.
const LAST: i32 = 64;

/// What is not passed on, as docker does not: what cannot be caught, what tells of this process, and what stops a process
/// that reads from a terminal or writes to it behind another's back.
const OWN: [i32; 7] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGURG,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Those by which a user wants an end.
const ENDING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT];

/// Those by which a user ends a wait for a container that does not run yet.
const INTERRUPTING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP];

/// As many of them, and the user has no more patience: docker has the same number.
const PATIENCE: usize = 3;

/// Signals that wait to be passed on.
#[derive(Debug)]
pub(super) struct Signals {
    descriptor: OwnedFd,
    ending: usize,
    /// Came before there was anybody to have them.
    kept: Vec<i32>,
    end_wanted: bool,
}

/// What is to be done about the signals that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// They were passed on.
    None,
    /// The terminal has another size.
    Resize,
    /// The container is to be killed.
    Kill,
}

impl Signals {
    /// From here on, signals wait until they are passed on. Those that whoever started this process has it ignore, as
    /// nohup(1) does, are ignored.
    ///
    /// # Errors
    /// signalfd(2)'s.
    pub(super) fn catch() -> io::Result<Self> {
        let signals = (1..=LAST).filter(|signal| !OWN.contains(signal));
        Ok(Self {
            descriptor: catch_signals(signals)?,
            ending: 0,
            kept: Vec::new(),
            end_wanted: false,
        })
    }

    /// Whether a user asked for an end since this was last asked.
    pub(super) fn end_is_wanted(&mut self) -> bool {
        std::mem::take(&mut self.end_wanted)
    }

    /// Passes on what came to the process. Where the container has a terminal, that tells of its size.
    ///
    /// # Errors
    /// Where they cannot be read.
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
            // It may have ended.
            let _ = send_signal(process, signal);
        }
    }
}

impl Signals {
    /// The next one that came, and is not ignored.
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
