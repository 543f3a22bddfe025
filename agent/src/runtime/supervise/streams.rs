//! What a container has as its standard streams.
//!
//! Files and pipes are handed to it as they are: no byte is touched, and none waits. A terminal is not: whoever has it
//! open can read what is typed there, and turn its modes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::{BoxBuilder, Process};
use rustix::fs::{Mode, OFlags};
use rustix::termios::isatty;

use super::Error;
use super::log::{Stream, Writer};
use super::relay::{Relay, again, pipe};
use crate::runtime::launch::Stdio;
use crate::runtime::terminal::{self, Raw};

/// Which streams a command wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub terminal: bool,
    pub interactive: bool,
}

impl Wanted {
    /// # Errors
    /// A terminal is to be typed at, and there is none.
    pub fn check(self) -> Result<(), Error> {
        if self.terminal && self.interactive && !isatty(io::stdin()) {
            return Err(Error::NoTerminal);
        }
        Ok(())
    }
}

/// Gives a process's terminal the size of this one, from its start.
pub fn set_size(process: &mut Process) {
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

/// The streams of a command that runs in the foreground.
///
/// # Errors
/// No descriptor is to be had.
pub fn foreground(wanted: Wanted) -> io::Result<(Stdio, Relay)> {
    let mut relay = Relay::default();
    if wanted.terminal {
        return Ok((Stdio::Terminal, relay));
    }
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let stdio = Stdio::Files {
        stdin: match wanted.interactive {
            true => reading(input.as_fd(), &mut relay)?,
            false => nothing()?,
        },
        stdout: writing(output.as_fd(), &mut relay)?,
        stderr: writing(errors.as_fd(), &mut relay)?,
    };
    Ok((stdio, relay))
}

/// The streams of a command whose output goes to a log.
///
/// # Errors
/// No descriptor is to be had.
pub fn logged(wanted: Wanted, log: Writer) -> io::Result<(Stdio, Relay)> {
    let mut relay = Relay::to_log(log);
    if wanted.terminal {
        return Ok((Stdio::Terminal, relay));
    }
    let stdin = if wanted.interactive {
        // It never ends, and nothing comes.
        let (theirs, ours) = pipe()?;
        relay.hold(ours);
        theirs
    } else {
        nothing()?
    };
    let (from_output, stdout) = pipe()?;
    let (from_errors, stderr) = pipe()?;
    relay.output_to_log(from_output, Stream::Output);
    relay.output_to_log(from_errors, Stream::Errors);
    let stdio = Stdio::Files {
        stdin,
        stdout,
        stderr,
    };
    Ok((stdio, relay))
}

/// Connects the container's terminal: to the agent's own, which is raw as long as what is returned lives, or to the log.
///
/// # Errors
/// No descriptor is to be had.
pub fn connect(
    terminal: OwnedFd,
    wanted: Wanted,
    logged: bool,
    relay: &mut Relay,
) -> io::Result<Option<Raw>> {
    rustix::fs::fcntl_setfl(&terminal, OFlags::RDWR | OFlags::NONBLOCK)?;
    if logged {
        relay.output_to_log(again(terminal.as_fd())?, Stream::Output);
        relay.hold(terminal);
        return Ok(None);
    }
    let (input, output) = (io::stdin(), io::stdout());
    relay.output(again(terminal.as_fd())?, again(output.as_fd())?);
    let mut raw = None;
    if wanted.interactive {
        relay.input(again(input.as_fd())?, again(terminal.as_fd())?);
        raw = Some(Raw::of(input)?);
    }
    relay.follow_size(terminal);
    Ok(raw)
}

fn reading(own: BorrowedFd<'_>, relay: &mut Relay) -> io::Result<OwnedFd> {
    if !isatty(own) {
        return again(own);
    }
    let (theirs, ours) = pipe()?;
    relay.input(again(own)?, ours);
    Ok(theirs)
}

fn writing(own: BorrowedFd<'_>, relay: &mut Relay) -> io::Result<OwnedFd> {
    if !isatty(own) {
        return again(own);
    }
    let (ours, theirs) = pipe()?;
    relay.output(ours, again(own)?);
    Ok(theirs)
}

fn nothing() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
}
