//! Makes the standard streams of a container: pipes, or a terminal of the container.
//!
//! The container gets no open file of the host. It could open the file in another mode through `/proc/self/fd`, or
//! change its mode with fchmod(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_host::faults::{Guard, guarded};
use agent_sys::descriptor::is_same_open_file;
use oci_spec::runtime::{BoxBuilder, Process};
use rustix::fs::{FileType, OFlags, SeekFrom, fcntl_getfl, fstat};
use rustix::termios::isatty;

use super::Error;
use super::end::{End, file_type};
use super::flow::{Flow, Name, Target};
use super::log::{Stream, Writer};
use super::relay::{Relay, nothing, pipe};
use crate::launch::Stdio;
use crate::terminal::{self, Raw};

/// The streams that a command wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WantedStreams {
    pub terminal: bool,
    pub interactive: bool,
}

impl WantedStreams {
    /// Checks that this process's standard input can serve as the command's.
    ///
    /// # Errors
    /// The command is to read it, and it is a directory, or no terminal where the command has one.
    pub(super) fn check(self) -> Result<(), Error> {
        let input = io::stdin();
        if self.terminal && self.interactive && !isatty(&input) {
            return Err(Error::NoTerminal);
        }
        if self.interactive && file_type(input.as_fd()) == Ok(FileType::Directory) {
            return Err(Error::DirectoryAsInput);
        }
        Ok(())
    }
}

/// Writes the size of the caller's terminal into `process`, so that its terminal has that size from the start.
pub(super) fn set_size(process: &mut Process) {
    let Some(size) = terminal::size() else {
        return;
    };
    let console = BoxBuilder::default()
        .height(u64::from(size.ws_row))
        .width(u64::from(size.ws_col));
    if let Ok(console) = console.build() {
        process.set_console_size(Some(console));
    }
}

/// Makes the streams of a command that runs in the foreground.
///
/// # Errors
/// The process has no free descriptor.
pub(super) fn foreground(wanted: WantedStreams) -> io::Result<(Stdio, Relay)> {
    let mut relay = Relay::default();
    if wanted.terminal {
        return Ok((Stdio::Terminal, relay));
    }
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let (input, output, errors) = (input.as_fd(), output.as_fd(), errors.as_fd());
    if !guarded(Guard::Streams) {
        let stdio = Stdio::Files {
            stdin: Some(match wanted.interactive {
                true => again(input)?,
                false => nothing()?,
            }),
            stdout: again(output)?,
            stderr: again(errors)?,
        };
        return Ok((stdio, relay));
    }
    let stdin = match wanted.interactive {
        true => Some(reading(input, &mut relay)?),
        false => None,
    };
    let stdout = writing(Name::Output, output, &mut relay)?;
    // With one pipe for both, the order of what a command writes to both is kept.
    let stderr = match is_one_file(output, errors) {
        true => again(stdout.as_fd())?,
        false => writing(Name::Errors, errors, &mut relay)?,
    };
    let stdio = Stdio::Files {
        stdin,
        stdout,
        stderr,
    };
    Ok((stdio, relay))
}

/// Makes the streams of a command whose output goes to a log.
///
/// # Errors
/// The process has no free descriptor.
pub(super) fn logged(wanted: WantedStreams, log: Writer) -> io::Result<(Stdio, Relay)> {
    if !guarded(Guard::Streams) && !wanted.terminal {
        let stdio = Stdio::Files {
            stdin: None,
            stdout: again(log.as_fd())?,
            stderr: again(log.as_fd())?,
        };
        return Ok((stdio, Relay::default()));
    }
    let mut relay = Relay::to_log(log);
    if wanted.terminal {
        return Ok((Stdio::Terminal, relay));
    }
    let mut stdin = None;
    if wanted.interactive {
        // Standard input is a pipe that stays open and never gets data.
        let (theirs, ours) = pipe()?;
        relay.hold(ours);
        stdin = Some(theirs);
    }
    let (from_output, stdout) = pipe()?;
    let (from_errors, stderr) = pipe()?;
    for (name, from, stream) in [
        (Name::Output, from_output, Stream::Output),
        (Name::Errors, from_errors, Stream::Errors),
    ] {
        relay.add(Flow::new(name, End::own(from)?, Target::Log(stream)));
    }
    let stdio = Stdio::Files {
        stdin,
        stdout,
        stderr,
    };
    Ok((stdio, relay))
}

/// Connects the container's terminal to the caller's terminal, or to the log. The caller's terminal is raw as long as
/// the returned value lives.
///
/// # Errors
/// The process has no free descriptor.
pub(super) fn connect(
    terminal: OwnedFd,
    wanted: WantedStreams,
    logged: bool,
    relay: &mut Relay,
) -> io::Result<Option<Raw>> {
    let from = End::controller(again(terminal.as_fd())?)?;
    if logged {
        let to = Target::Log(Stream::Output);
        relay.add(Flow::new(Name::Output, from, to));
        relay.hold(terminal);
        return Ok(None);
    }
    let (input, output) = (io::stdin(), io::stdout());
    let to = End::of_caller(output.as_fd(), OFlags::WRONLY)?;
    relay.add(Flow::new(Name::Output, from, Target::End(to)));
    let mut raw = None;
    if wanted.interactive {
        let from = End::of_caller(input.as_fd(), OFlags::RDONLY)?;
        let to = End::controller(again(terminal.as_fd())?)?;
        relay.add(Flow::new(Name::Input, from, Target::End(to)));
        raw = Some(Raw::of(input)?);
    }
    relay.follow_size(terminal);
    Ok(raw)
}

/// Returns the end of a pipe from which the container reads this stream of the caller.
fn reading(own: BorrowedFd<'_>, relay: &mut Relay) -> io::Result<OwnedFd> {
    let (theirs, ours) = pipe()?;
    let from = End::of_caller(own, OFlags::RDONLY)?;
    let to = Target::End(End::own(ours)?);
    relay.add(Flow::new(Name::Input, from, to));
    Ok(theirs)
}

/// Returns the end of a pipe to which the container writes this stream of the caller.
fn writing(name: Name, own: BorrowedFd<'_>, relay: &mut Relay) -> io::Result<OwnedFd> {
    let (ours, theirs) = pipe()?;
    let to = Target::End(End::of_caller(own, OFlags::WRONLY)?);
    relay.add(Flow::new(name, End::own(ours)?, to));
    Ok(theirs)
}

/// Tells whether output through both descriptors ends up in one order. Both are the same open file, pipe, terminal or
/// device, or a file to which both append.
fn is_one_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let (Ok(found), Ok(found_too)) = (fstat(one), fstat(other)) else {
        return false;
    };
    if (found.st_dev, found.st_ino) != (found_too.st_dev, found_too.st_ino) {
        return false;
    }
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return true;
    }
    let flags = [one, other].map(|file| fcntl_getfl(file).ok());
    let [Some(flags), Some(flags_too)] = flags else {
        return false;
    };
    if flags.intersection(flags_too).contains(OFlags::APPEND) {
        return true;
    }
    is_same_open_file(one, other).unwrap_or_else(|| {
        let place = |file| rustix::fs::seek(file, SeekFrom::Current(0)).ok();
        flags == flags_too && place(one) == place(other)
    })
}

/// Returns a second descriptor of the same open file.
fn again(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    descriptor.try_clone_to_owned()
}
