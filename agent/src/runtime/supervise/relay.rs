//! Between a container's start and its end: what it writes and reads is copied where that is not the agent's own, and
//! signals are passed on.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::log::{self, Stream};
use super::signals::{Signals, Wish};
use crate::runtime::terminal;

/// Read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// What a pipe that is ready takes without holding up the writer (pipe(7), `PIPE_BUF`): others have it open too, so
/// that it cannot be made to fail instead.
const WRITTEN_AT_ONCE: usize = 4096;

/// How long the end of a stream is waited for once all that was in the container is dead: somebody outside may have it.
const LINGER: Duration = Duration::from_secs(1);

/// Where a copy goes.
#[derive(Debug)]
enum Target {
    Descriptor(OwnedFd),
    Log(Stream),
}

/// A stream on its way from one descriptor to another.
#[derive(Debug)]
struct Copy {
    from: OwnedFd,
    to: Target,
    /// Read and not written yet.
    waiting: Vec<u8>,
    ended: bool,
    /// From the container, and to be copied to its end.
    output: bool,
}

/// The streams of a container that do not go by themselves.
#[derive(Debug, Default)]
pub struct Relay {
    copies: Vec<Copy>,
    log: Option<log::Writer>,
    /// The other side of the container's terminal.
    terminal: Option<OwnedFd>,
    /// Descriptors that only have to stay open.
    held: Vec<OwnedFd>,
    /// Once it can be read, or is hung up, the first process is to be ended.
    leash: Option<OwnedFd>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// The end of the process.
    End,
    /// What was read is written.
    Written,
    /// Nothing more is to be read.
    Idle,
}

/// How the container's first process is to be ended at once.
pub type Kill<'a> = &'a mut dyn FnMut();

impl Relay {
    /// A relay to a log.
    pub fn to_log(log: log::Writer) -> Self {
        Self {
            log: Some(log),
            ..Self::default()
        }
    }

    /// Copies what the container writes.
    pub fn output(&mut self, from: OwnedFd, to: OwnedFd) {
        self.copy(from, Target::Descriptor(to), true);
    }

    /// Copies what the container writes to the log.
    pub fn output_to_log(&mut self, from: OwnedFd, stream: Stream) {
        self.copy(from, Target::Log(stream), true);
    }

    /// Copies what the container reads. Its end is the end for the container too.
    pub fn input(&mut self, from: OwnedFd, to: OwnedFd) {
        self.copy(from, Target::Descriptor(to), false);
    }

    /// Keeps it open to the end.
    pub fn hold(&mut self, descriptor: OwnedFd) {
        self.held.push(descriptor);
    }

    /// Ends the first process once this can be read, or its other side is gone.
    pub fn leash(&mut self, leash: OwnedFd) {
        self.leash = Some(leash);
    }

    /// Follows this terminal's size with the container's, from now on.
    pub fn follow_size(&mut self, terminal: OwnedFd) {
        terminal::follow_size(&terminal);
        self.terminal = Some(terminal);
    }

    fn copy(&mut self, from: OwnedFd, to: Target, output: bool) {
        self.copies.push(Copy {
            from,
            to,
            waiting: Vec::new(),
            ended: false,
            output,
        });
    }

    /// Copies and passes on until `process` has ended.
    ///
    /// # Errors
    /// poll(2)'s. What becomes of streams is none.
    pub fn until_end(
        &mut self,
        process: BorrowedFd<'_>,
        signals: &mut Signals,
        kill: Kill<'_>,
    ) -> io::Result<()> {
        loop {
            let (ended, _) = self.turn(process, Until::End, signals, kill)?;
            if ended {
                return Ok(());
            }
        }
    }

    /// Copies what is left, once all that was in the container is dead.
    ///
    /// # Errors
    /// As of [`Self::until_end`].
    pub fn drain(&mut self, process: BorrowedFd<'_>, signals: &mut Signals) -> io::Result<()> {
        self.copies.retain(|copy| copy.output);
        let mut gave_up = false;
        while !self.copies.is_empty() && !gave_up {
            // Whoever reads it may take all the time there is, but for a user who wants an end.
            let writing = self.copies.iter().any(|copy| !copy.waiting.is_empty());
            let until = if writing { Until::Written } else { Until::Idle };
            let (_, idle) = self.turn(process, until, signals, &mut || gave_up = true)?;
            if idle {
                break;
            }
        }
        Ok(())
    }

    /// Waits for something and does it: whether the process has ended, and whether nothing came for too long.
    fn turn(
        &mut self,
        process: BorrowedFd<'_>,
        until: Until,
        signals: &mut Signals,
        kill: Kill<'_>,
    ) -> io::Result<(bool, bool)> {
        let mut waited = vec![PollFd::new(signals, PollFlags::IN)];
        if until == Until::End {
            waited.push(PollFd::from_borrowed_fd(process, PollFlags::IN));
            waited.extend(self.leash.as_ref().map(|it| PollFd::new(it, PollFlags::IN)));
        }
        let fixed = waited.len();
        waited.extend(self.copies.iter().map(Copy::waits_for));
        let linger = match until {
            Until::Idle => Timespec::try_from(LINGER).ok(),
            Until::End | Until::Written => None,
        };
        let ready = match poll(&mut waited, linger.as_ref()) {
            Err(Errno::INTR) => return Ok((false, false)),
            other => other?,
        };
        let ready_ones: Vec<bool> = waited.iter().map(|it| !it.revents().is_empty()).collect();
        let (fixed, copies) = ready_ones.split_at(fixed);
        if fixed.first() == Some(&true) {
            match signals.pass_on(process)? {
                Wish::None => {}
                Wish::Resize => {
                    if let Some(terminal) = &self.terminal {
                        terminal::follow_size(terminal);
                    }
                }
                Wish::Kill => kill(),
            }
        }
        if fixed.get(2) == Some(&true) {
            kill();
            self.leash = None;
        }
        for (copy, _) in self
            .copies
            .iter_mut()
            .zip(copies)
            .filter(|(_, ready)| **ready)
        {
            copy.go_on(self.log.as_mut());
        }
        self.copies.retain(|copy| !copy.ended);
        Ok((fixed.get(1) == Some(&true), ready == 0))
    }
}

impl Copy {
    fn waits_for(&self) -> PollFd<'_> {
        match &self.to {
            Target::Descriptor(to) if !self.waiting.is_empty() => PollFd::new(to, PollFlags::OUT),
            _ => PollFd::new(&self.from, PollFlags::IN),
        }
    }

    /// Writes what waits, or reads.
    fn go_on(&mut self, log: Option<&mut log::Writer>) {
        if self.waiting.is_empty() {
            self.read();
            if let (Target::Log(stream), Some(log)) = (&self.to, log) {
                // The container goes on without a log where there is no room for one.
                let _ = log.write(*stream, &self.waiting);
                self.waiting.clear();
            }
        } else {
            self.write();
        }
    }

    fn read(&mut self) {
        self.waiting.resize(BUFFER_BYTES, 0);
        let read = rustix::io::read(&self.from, &mut self.waiting[..]);
        self.waiting.truncate(*read.as_ref().unwrap_or(&0));
        // EIO: nobody has the terminal open any more.
        self.ended = !matches!(read, Ok(1..) | Err(Errno::AGAIN | Errno::INTR));
    }

    fn write(&mut self) {
        let Target::Descriptor(to) = &self.to else {
            return;
        };
        let piece = self.waiting.get(..WRITTEN_AT_ONCE).unwrap_or(&self.waiting);
        match rustix::io::write(to, piece) {
            Ok(written) => drop(self.waiting.drain(..written)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody reads it: the container learns it by its own next write.
            Err(_) => self.ended = true,
        }
    }
}

/// A pipe whose ends no program inherits: what is read from, what is written to.
///
/// # Errors
/// pipe(2)'s.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// A second descriptor of the same.
///
/// # Errors
/// dup(2)'s.
pub fn again(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    descriptor.as_fd().try_clone_to_owned()
}
