//! Reads and writes the ends of a stream.
//!
//! The caller's shell and its other children share the caller's ends. So this module changes none of their flags, and
//! makes only reads and writes that do not block.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::{FileType, OFlags, fstat, fstatfs};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::fcntl_setpipe_size;
use rustix::termios::isatty;

use crate::terminal::other_side;

/// What a pipe takes without holding up the writer once poll(2) says that it can be written (pipe(7), `PIPE_BUF`).
const WRITTEN_AT_ONCE: usize = 4096;

/// An offset by which pwritev2(2) means the file's own position.
const OWN_POSITION: u64 = u64::MAX;

const PIPEFS_MAGIC: u64 = 0x5049_5045;

/// What kind of file it is decides how it is read and written without blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One that only this process has in this mode, and that does not block: an end of a pipe that this process made.
    Own,
    /// The controller of the container's terminal, which only this process has and which does not block.
    Controller,
    /// splice(2) can be told not to block.
    Pipe,
    /// One with a name, which a reader may come back to.
    Fifo,
    /// send(2) and recv(2) can be told not to block.
    Socket,
    /// A terminal, opened once more where that is permitted, so that it does not block.
    Terminal,
    /// Files and devices: poll(2) says that they are ready, and the disk is all that they wait for.
    Other,
}

/// One end of a stream.
#[derive(Debug)]
pub(super) struct End {
    descriptor: OwnedFd,
    kind: Kind,
    is_pipe: bool,
    /// The other side of a terminal, kept open so that it goes on when the container has closed it for a while.
    other_side: Option<OwnedFd>,
}

impl End {
    /// An end that this process made, and that does not block from here on.
    ///
    /// # Errors
    /// fcntl(2)'s.
    pub(super) fn own(descriptor: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&descriptor)?;
        rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
        let is_pipe = file_type(descriptor.as_fd())? == FileType::Fifo;
        Ok(Self {
            descriptor,
            kind: Kind::Own,
            is_pipe,
            other_side: None,
        })
    }

    /// The controller of the container's terminal, which does not block from here on. It has no end: the container may
    /// open its terminal again.
    ///
    /// # Errors
    /// fcntl(2)'s.
    pub(super) fn controller(descriptor: OwnedFd) -> io::Result<Self> {
        let own = Self::own(descriptor)?;
        Ok(Self {
            // Where it cannot be opened, the terminal is at its end once nobody has it open.
            other_side: other_side(&own.descriptor).ok(),
            kind: Kind::Controller,
            ..own
        })
    }

    /// One of the caller's standard streams, opened in this mode.
    ///
    /// # Errors
    /// No descriptor is to be had.
    pub(super) fn of_caller(stream: BorrowedFd<'_>, mode: OFlags) -> io::Result<Self> {
        let kind = match file_type(stream)? {
            FileType::Fifo => {
                let magic = fstatfs(stream).map(|found| found.f_type as u64);
                match magic == Ok(PIPEFS_MAGIC) {
                    true => Kind::Pipe,
                    false => Kind::Fifo,
                }
            }
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice if isatty(stream) => Kind::Terminal,
            _ => Kind::Other,
        };
        let flags = mode | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let again = match kind {
            Kind::Terminal => agent_host::launch::reopen(stream, flags).ok(),
            _ => None,
        };
        Ok(Self {
            descriptor: again.map_or_else(|| stream.try_clone_to_owned(), Ok)?,
            kind,
            is_pipe: matches!(kind, Kind::Pipe | Kind::Fifo),
            other_side: None,
        })
    }

    pub(super) const fn is_pipe(&self) -> bool {
        self.is_pipe
    }

    /// Whether splice(2) may move what is in a pipe to this end. Files are read instead: their pages, which are the
    /// host's page cache, are not to be in a pipe of the container's.
    pub(super) const fn takes_from_pipes(&self) -> bool {
        self.is_pipe || matches!(self.kind, Kind::Other)
    }

    /// Lets a pipe of this process's own hold more. An ordinary user may be refused that.
    pub(super) fn enlarge(&self, bytes: usize) {
        if self.is_pipe && self.kind == Kind::Own {
            let _ = fcntl_setpipe_size(&self.descriptor, bytes);
        }
    }

    /// What poll(2) says of it, though nothing is asked for, once nobody is at the other side.
    pub(super) const fn when_gone(&self) -> PollFlags {
        match self.kind {
            Kind::Own | Kind::Pipe | Kind::Socket | Kind::Terminal => {
                PollFlags::ERR.union(PollFlags::HUP)
            }
            Kind::Controller | Kind::Fifo | Kind::Other => PollFlags::empty(),
        }
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// AGAIN where nothing is; else read(2)'s. A terminal of the caller's that is hung up is at its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        if self.kind == Kind::Socket {
            return rustix::net::recv(&self.descriptor, buffer, RecvFlags::DONTWAIT)
                .map(|(n, _)| n);
        }
        match (rustix::io::read(&self.descriptor, buffer), self.kind) {
            (Err(Errno::IO), Kind::Other) => Err(Errno::IO),
            (Err(Errno::IO), Kind::Controller) => self.go_on_after_hangup(),
            (Err(Errno::IO), _) => Ok(0),
            (read, _) => read,
        }
    }

    /// Whoever leads a session, or calls vhangup(2), hangs its terminal up, and others open it again: a getty does so.
    fn go_on_after_hangup(&mut self) -> Result<usize, Errno> {
        self.other_side = other_side(&self.descriptor).ok();
        match self.other_side {
            Some(_) => Err(Errno::AGAIN),
            None => Ok(0),
        }
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// AGAIN where there is none; PIPE where nobody reads, also of a terminal; else write(2)'s.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let few = bytes.get(..WRITTEN_AT_ONCE).unwrap_or(bytes);
        match self.kind {
            Kind::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(&self.descriptor, bytes, flags)
            }
            Kind::Pipe | Kind::Fifo => {
                let whole = [IoSlice::new(bytes)];
                let flags = ReadWriteFlags::NOWAIT;
                match rustix::io::pwritev2(&self.descriptor, &whole, OWN_POSITION, flags) {
                    // Before Linux 6.4, and for pipes with names.
                    Err(Errno::OPNOTSUPP) => rustix::io::write(&self.descriptor, few),
                    written => written,
                }
            }
            Kind::Terminal => rustix::io::write(&self.descriptor, few).map_err(hung_up),
            Kind::Own | Kind::Controller => {
                rustix::io::write(&self.descriptor, bytes).map_err(hung_up)
            }
            Kind::Other => rustix::io::write(&self.descriptor, bytes),
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn hung_up(errno: Errno) -> Errno {
    match errno {
        Errno::IO => Errno::PIPE,
        errno => errno,
    }
}

pub(super) fn file_type(descriptor: BorrowedFd<'_>) -> Result<FileType, Errno> {
    fstat(descriptor).map(|found| FileType::from_raw_mode(found.st_mode))
}
