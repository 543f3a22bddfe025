//! Moves a stream from one descriptor to another.
//!
//! splice(2) moves the bytes from a pipe to a pipe or a file. In other cases the supervisor reads and writes them. A
//! stream holds a bounded number of bytes, so its writer waits for its reader.

use std::io;

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::{SpliceFlags, splice};

use super::end::End;
use super::log::{self, Stream};

/// The most bytes that are read at once, and that a stream holds outside of pipes.
const BUFFER_BYTES: usize = 64 << 10;

/// The most bytes of one splice(2).
const SPLICED_BYTES: usize = 1 << 20;

/// The default size of a pipe, and the size of this process's pipes once a command moves much. Three processes take
/// turns where two would without the relay, and large pipes halve the number of turns.
const PIPE_BYTES: usize = 64 << 10;
const LARGE_PIPE_BYTES: usize = 256 << 10;

/// More bytes than a terminal can hold at the end. The kernel keeps 8 KiB in its buffers (`pty_common_install`), and 4
/// KiB in its line discipline.
const TERMINAL_BYTES: usize = 64 << 10;

/// One of the command's standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Input,
    Output,
    Errors,
}

impl Name {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Input => "standard input",
            Self::Output => "standard output",
            Self::Errors => "standard error",
        }
    }
}

/// The target of a stream.
#[derive(Debug)]
pub(super) enum Target {
    End(End),
    Log(Stream),
}

/// Why a stream has ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// All bytes were moved.
    Done,
    /// The target has no reader.
    Gone,
    Failed(io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    ForSource,
    ForTarget,
}

/// A stream that is being moved.
#[derive(Debug)]
pub(super) struct Flow {
    pub name: Name,
    from: End,
    to: Target,
    splices: bool,
    is_large: bool,
    waits: Waits,
    buffer: Vec<u8>,
    /// The number of bytes of `buffer` that have been written.
    written: usize,
    /// The number of bytes that are still taken from the source. None before [`Self::settle`].
    left: Option<usize>,
}

impl Flow {
    pub(super) fn new(name: Name, from: End, to: Target) -> Self {
        let splices = match &to {
            Target::End(to) => from.is_pipe() && to.takes_from_pipes(),
            Target::Log(_) => false,
        };
        Self {
            name,
            from,
            to,
            splices,
            is_large: false,
            waits: Waits::ForSource,
            buffer: Vec::new(),
            written: 0,
            left: None,
        }
    }

    /// Returns what poll(2) waits for: the side that the stream waits for. Where that is the source, also the loss of
    /// the target's reader.
    pub(super) fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        let target = match &self.to {
            Target::End(to) => Some(to),
            Target::Log(_) => None,
        };
        let (source, target) = match self.waits {
            Waits::ForSource => {
                let watched = target.filter(|to| !to.when_gone().is_empty());
                let watched = watched.map(|to| PollFd::new(to, PollFlags::empty()));
                (Some(PollFd::new(&self.from, PollFlags::IN)), watched)
            }
            Waits::ForTarget => (None, target.map(|to| PollFd::new(to, PollFlags::OUT))),
        };
        source.into_iter().chain(target)
    }

    /// Moves bytes without waiting. `found` is what poll(2) reported, in the order of [`Self::polled`].
    ///
    /// # Errors
    /// The stream has ended.
    pub(super) fn go_on(
        &mut self,
        found: &[PollFlags],
        log: Option<&mut log::Writer>,
    ) -> Result<(), Ended> {
        if let (Waits::ForSource, Target::End(to), Some(target)) =
            (self.waits, &self.to, found.get(1))
            && target.intersects(to.when_gone())
        {
            return Err(Ended::Gone);
        }
        match found.first() {
            Some(first) if !first.is_empty() => self.step(log),
            _ => Ok(()),
        }
    }

    /// Limits the stream to the bytes that are in the pipe or terminal now. Processes that still write are not waited
    /// for.
    pub(super) fn settle(&mut self) {
        let there = if self.from.is_pipe() {
            ioctl_fionread(&self.from).map_or(0, |bytes| bytes as usize)
        } else {
            TERMINAL_BYTES
        };
        self.left = Some(there);
    }

    /// Moves the rest of the bytes until the stream has to wait for its reader.
    ///
    /// # Errors
    /// The stream has ended: [`Ended::Done`] where nothing is left.
    pub(super) fn finish(&mut self, mut log: Option<&mut log::Writer>) -> Result<(), Ended> {
        while self.waits == Waits::ForSource {
            self.step(log.as_deref_mut())?;
        }
        Ok(())
    }

    fn step(&mut self, log: Option<&mut log::Writer>) -> Result<(), Ended> {
        if self.left == Some(0) && self.buffer.is_empty() {
            return Err(Ended::Done);
        }
        if self.splices {
            return self.splice();
        }
        if self.buffer.is_empty() {
            self.read()?;
        } else {
            self.write()?;
        }
        if let (Target::Log(stream), Some(log)) = (&self.to, log) {
            log.write(*stream, &self.buffer);
            self.buffer.clear();
        }
        self.waits = match self.buffer.is_empty() {
            true => Waits::ForSource,
            false => Waits::ForTarget,
        };
        Ok(())
    }

    fn splice(&mut self) -> Result<(), Ended> {
        let Target::End(to) = &self.to else {
            self.splices = false;
            return Ok(());
        };
        let most = self.left.unwrap_or(SPLICED_BYTES).min(SPLICED_BYTES);
        match splice(&self.from, None, to, None, most, SpliceFlags::NONBLOCK) {
            Ok(0) => return Err(Ended::Done),
            Ok(moved) => {
                if moved >= PIPE_BYTES && !self.is_large {
                    self.is_large = true;
                    self.from.enlarge(LARGE_PIPE_BYTES);
                    to.enlarge(LARGE_PIPE_BYTES);
                }
                self.take(moved);
                self.waits = Waits::ForSource;
            }
            // EAGAIN does not say which of the two is not ready.
            Err(Errno::AGAIN) => self.waits = self.other_side()?,
            Err(Errno::INTR) => {}
            // EINVAL: the file is open for appending, or its file system does not support splice(2).
            Err(Errno::INVAL) => self.splices = false,
            Err(errno) => return Err(ended(errno)),
        }
        Ok(())
    }

    fn other_side(&self) -> Result<Waits, Ended> {
        match (self.waits, self.left) {
            (Waits::ForSource, None) => Ok(Waits::ForTarget),
            (Waits::ForTarget, None) => Ok(Waits::ForSource),
            // Another process may have read the bytes that were counted.
            (_, Some(_)) => match ioctl_fionread(&self.from) {
                Ok(1..) => Ok(Waits::ForTarget),
                _ => Err(Ended::Done),
            },
        }
    }

    fn read(&mut self) -> Result<(), Ended> {
        let most = self.left.unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        self.buffer.resize(most, 0);
        let read = self.from.read(&mut self.buffer);
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(Ended::Done),
            Ok(bytes) => {
                self.take(bytes);
                Ok(())
            }
            Err(Errno::AGAIN) if self.left.is_some() => Err(Ended::Done),
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(ended(errno)),
        }
    }

    fn write(&mut self) -> Result<(), Ended> {
        let Target::End(to) = &self.to else {
            return Ok(());
        };
        let bytes = self.buffer.get(self.written..).unwrap_or_default();
        match to.write(bytes) {
            Ok(written) => self.written += written,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(ended(errno)),
        }
        if self.written >= self.buffer.len() {
            self.buffer.clear();
            self.written = 0;
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(bytes);
        }
    }
}

fn ended(errno: Errno) -> Ended {
    match errno {
        Errno::PIPE | Errno::CONNRESET => Ended::Gone,
        errno => Ended::Failed(errno.into()),
    }
}
