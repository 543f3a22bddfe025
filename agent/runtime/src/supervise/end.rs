//! Reads and writes the ends of a stream.
//!
//! The caller's shell and its other children share the caller's open files. So this module changes none of their flags,
//! and reads and writes without blocking by other means.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::{FileType, OFlags, fstat, fstatfs};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::fcntl_setpipe_size;
use rustix::termios::isatty;

use crate::terminal::other_side;

/// The bytes that a write to a pipe takes without blocking, once poll(2) has reported the pipe as writable (pipe(7),
/// `PIPE_BUF`).
const WRITTEN_AT_ONCE: usize = 4096;

/// The offset -1, for which pwritev2(2) uses the file's own position.
const OWN_POSITION: u64 = u64::MAX;

const PIPEFS_MAGIC: u64 = 0x5049_5045;

/// The kind of file, which decides how it is read and written without blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An end of a pipe that this process made. Nobody else has this open file, and it is set to not block.
    Own,
    /// The controller of the container's terminal. Only this process has it, and it is set to not block.
    Controller,
    /// A pipe without a name. pwritev2(2) and splice(2) have flags that keep them from blocking.
    Pipe,
    /// A named pipe. A reader may come back after all readers have left.
    Fifo,
    /// A socket. send(2) and recv(2) have a flag that keeps them from blocking.
    Socket,
    /// A terminal of the caller. Where that is permitted, it is opened again, as an open file that does not block.
    Terminal,
    /// A file or a device. poll(2) reports files as ready, and their reads and writes wait only for the disk.
    Other,
}

/// One end of a stream.
#[derive(Debug)]
pub(super) struct End {
    descriptor: OwnedFd,
    kind: Kind,
    is_pipe: bool,
    /// The terminal side, which is kept open. Without it, reads fail while the container has its terminal closed.
    other_side: Option<OwnedFd>,
}

impl End {
    /// Makes an end of a pipe that this process made, and sets it to not block.
    ///
    /// # Errors
    /// fcntl(2) or fstat(2) failed.
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

    /// Makes an end of the controller of the container's terminal, and sets it to not block. The stream does not end
    /// when the container closes its terminal, because the container may open it again.
    ///
    /// # Errors
    /// fcntl(2) or fstat(2) failed.
    pub(super) fn controller(descriptor: OwnedFd) -> io::Result<Self> {
        let own = Self::own(descriptor)?;
        Ok(Self {
            // Where the terminal side cannot be opened, the stream ends once no process has the terminal open.
            other_side: other_side(&own.descriptor).ok(),
            kind: Kind::Controller,
            ..own
        })
    }

    /// Makes an end of one of the caller's standard streams, which is opened in this mode.
    ///
    /// # Errors
    /// fstat(2) failed, or the process has no free descriptor.
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

    /// Tells whether splice(2) may move data from a pipe to this end. Data from files is read instead: splice(2) would
    /// put pages of the host's page cache into a pipe of the container.
    pub(super) const fn takes_from_pipes(&self) -> bool {
        self.is_pipe || matches!(self.kind, Kind::Other)
    }

    /// Enlarges the buffer of a pipe that this process made. The kernel may refuse that to an ordinary user.
    pub(super) fn enlarge(&self, bytes: usize) {
        if self.is_pipe && self.kind == Kind::Own {
            let _ = fcntl_setpipe_size(&self.descriptor, bytes);
        }
    }

    /// Returns the flags by which poll(2) reports that the other side is gone. It reports them although none is asked
    /// for.
    pub(super) const fn when_gone(&self) -> PollFlags {
        match self.kind {
            Kind::Own | Kind::Pipe | Kind::Socket | Kind::Terminal => {
                PollFlags::ERR.union(PollFlags::HUP)
            }
            Kind::Controller | Kind::Fifo | Kind::Other => PollFlags::empty(),
        }
    }

    /// Reads the bytes that are available.
    ///
    /// # Errors
    /// EAGAIN where no bytes are available, or the error of read(2). A caller's terminal that is hung up is at its end.
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

    /// Opens the terminal side again after a hangup. A session leader hangs its terminal up when it ends, and
    /// vhangup(2) does too. A process such as getty then opens the terminal again.
    fn go_on_after_hangup(&mut self) -> Result<usize, Errno> {
        self.other_side = other_side(&self.descriptor).ok();
        match self.other_side {
            Some(_) => Err(Errno::AGAIN),
            None => Ok(0),
        }
    }

    /// Writes as many bytes as fit.
    ///
    /// # Errors
    /// EAGAIN where none fit. EPIPE where nobody reads, also for a terminal. Otherwise the error of write(2).
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
                    // The kernel refuses RWF_NOWAIT for pipes before Linux 6.4, and for named pipes.
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
