//! Relays a container's streams and signals from its start to its end. One thread relays all of them, so only poll(2)
//! blocks.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::stdio::{dup2_stdin, dup2_stdout};

use super::flow::{Ended, Flow, Name};
use super::killing::{Kill, Killing};
use super::log;
use super::signals::{Signals, Wish};
use crate::terminal;

/// The streams of a container.
#[derive(Debug, Default)]
pub(super) struct Relay {
    flows: Vec<Flow>,
    log: Option<log::Writer>,
    /// The controller of the container's terminal.
    terminal: Option<OwnedFd>,
    /// Descriptors that stay open until the container ends.
    held: Vec<OwnedFd>,
    /// The descriptor of a verifier. When it is readable or hung up, the relay kills the init process and waits for
    /// nothing else.
    leash: Option<OwnedFd>,
    /// When the verifier ended the container. The relay then moves earlier output for only [`LAST`] more.
    pulled: Option<Instant>,
    /// Whether output of the container was lost.
    lost_output: bool,
}

/// How long the relay moves earlier output after the verifier has ended the container.
const LAST: Duration = Duration::from_secs(1);

/// The descriptors that poll(2) reported.
struct ChosenPipe {
    signals: bool,
    process: bool,
    leash: bool,
    /// One entry for each flow, in the order of [`Flow::polled`].
    flows: Vec<Vec<PollFlags>>,
}

impl Relay {
    /// Makes a relay to a log.
    pub(super) fn to_log(log: log::Writer) -> Self {
        Self {
            log: Some(log),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, flow: Flow) {
        self.flows.push(flow);
    }

    /// Keeps a descriptor open until the container ends.
    pub(super) fn hold(&mut self, descriptor: OwnedFd) {
        self.held.push(descriptor);
    }

    /// Kills the init process once `leash` is readable or hung up.
    pub(super) fn leash(&mut self, leash: OwnedFd) {
        self.leash = Some(leash);
    }

    /// Gives the container's terminal the size of the caller's, now and whenever that changes.
    pub(super) fn follow_size(&mut self, terminal: OwnedFd) {
        terminal::follow_size(&terminal);
        self.terminal = Some(terminal);
    }

    /// Tells whether output of the container was lost because it could not be moved. Output for a reader that has gone
    /// does not count.
    pub(super) const fn lost_output(&self) -> bool {
        self.lost_output
    }

    /// Relays streams and signals until `process` has ended.
    ///
    /// # Errors
    /// poll(2) failed, or the error is [`io::ErrorKind::TimedOut`]: the process was killed and does not end. An error
    /// of a stream ends only that stream.
    pub(super) fn until_end(
        &mut self,
        process: BorrowedFd<'_>,
        signals: &mut Signals,
        kill: Kill<'_>,
    ) -> io::Result<()> {
        let mut killing: Option<Killing> = None;
        loop {
            let pause = killing.as_ref().map(Killing::pause);
            let found = self.wait(signals, Some(process), pause)?;
            if found.signals {
                match signals.pass_on(process, self.terminal.is_some())? {
                    Wish::None => {}
                    Wish::Resize => self.resize(),
                    Wish::Kill => killing = killing.or_else(|| Some(Killing::begin())),
                }
            }
            if found.leash {
                self.pull();
                killing = killing.or_else(|| Some(Killing::begin()));
            }
            self.go_on(&found.flows);
            if found.process {
                return Ok(());
            }
            if let Some(killing) = &mut killing {
                killing.go_on(&mut *kill)?;
            }
        }
    }

    /// Moves the output that the command had written when it ended. A slow reader may take its time, unless the user
    /// wants an end. The relay does not wait for other processes that have the streams open.
    ///
    /// # Errors
    /// poll(2) failed, or the signals cannot be read.
    pub(super) fn drain(
        &mut self,
        process: BorrowedFd<'_>,
        signals: &mut Signals,
    ) -> io::Result<()> {
        self.each(|flow, _| match flow.name {
            Name::Input => Err(Ended::Done),
            Name::Output | Name::Errors => {
                flow.settle();
                Ok(())
            }
        });
        loop {
            self.each(Flow::finish);
            if self.flows.is_empty() {
                return Ok(());
            }
            let left = self.pulled.map(|pulled| pulled + LAST);
            let left = left.map(|last| last.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
            let found = self.wait(signals, None, left)?;
            if found.signals {
                signals.pass_on(process, self.terminal.is_some())?;
                if signals.end_is_wanted() {
                    return Ok(());
                }
            }
            if found.leash {
                self.pull();
            }
            self.go_on(&found.flows);
        }
    }

    fn pull(&mut self) {
        self.leash = None;
        self.pulled = Some(Instant::now());
    }

    /// Waits until a descriptor is ready, or until the time is over.
    fn wait(
        &self,
        signals: &Signals,
        process: Option<BorrowedFd<'_>>,
        time: Option<Duration>,
    ) -> io::Result<ChosenPipe> {
        let mut polled = vec![PollFd::new(signals, PollFlags::IN)];
        let others = process.map(|process| PollFd::from_borrowed_fd(process, PollFlags::IN));
        polled.extend(others);
        let leash = self.leash.as_ref();
        polled.extend(leash.map(|leash| PollFd::new(leash, PollFlags::IN)));
        let mut lengths = Vec::with_capacity(self.flows.len());
        for flow in &self.flows {
            let before = polled.len();
            polled.extend(flow.polled());
            lengths.push(polled.len() - before);
        }
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut polled, time.as_ref()) {
            // After EINTR, no descriptor counts as ready.
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut found = polled.iter().map(PollFd::revents);
        let mut is_ready =
            |is_polled: bool| is_polled && found.next().is_some_and(|flags| !flags.is_empty());
        Ok(ChosenPipe {
            signals: is_ready(true),
            process: is_ready(process.is_some()),
            leash: is_ready(leash.is_some()),
            flows: lengths
                .iter()
                .map(|length| found.by_ref().take(*length).collect())
                .collect(),
        })
    }

    fn go_on(&mut self, found: &[Vec<PollFlags>]) {
        let mut found = found.iter();
        self.each(|flow, log| flow.go_on(found.next().map_or(&[], Vec::as_slice), log));
    }

    /// Calls a function for each flow, and drops the flows that have ended.
    fn each(
        &mut self,
        mut act: impl FnMut(&mut Flow, Option<&mut log::Writer>) -> Result<(), Ended>,
    ) {
        let (log, lost) = (&mut self.log, &mut self.lost_output);
        self.flows.retain_mut(|flow| match act(flow, log.as_mut()) {
            Ok(()) => true,
            Err(ended) => {
                if let Ended::Failed(error) = ended {
                    tell(flow.name, &error);
                    *lost |= flow.name != Name::Input;
                }
                let_go(flow.name);
                false
            }
        });
    }

    fn resize(&self) {
        if let Some(terminal) = &self.terminal {
            terminal::follow_size(terminal);
        }
    }
}

fn tell(name: Name, error: &io::Error) {
    let done = match name {
        Name::Input => "the container reads no more of it",
        Name::Output | Name::Errors => "what the container writes there is lost",
    };
    super::say(&format!("{}: {error}; {done}", name.text()));
}

/// Replaces this process's descriptor of a stream by `/dev/null`, because the other side sees the end only when every
/// copy is closed. Standard error stays open for messages.
fn let_go(name: Name) {
    // Where `/dev/null` cannot be opened, the other side sees the end when this process ends.
    let Ok(nothing) = nothing() else {
        return;
    };
    let _ = match name {
        Name::Input => dup2_stdin(nothing),
        Name::Output => dup2_stdout(nothing),
        Name::Errors => Ok(()),
    };
}

/// Makes a pipe that no program inherits. Returns the end to read from, and the end to write to.
///
/// # Errors
/// pipe(2) failed.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Opens the host's `/dev/null`.
pub(super) fn nothing() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
}
