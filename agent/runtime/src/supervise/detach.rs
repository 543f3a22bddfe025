//! Makes a supervisor for a container that outlives the command that started it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use agent_host::interrupts::Interrupts as _;
use agent_sys::fork::{Side, fork, leave_parent};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::observer::{Observer, SupervisorMessage, parse};
use super::relay::pipe;
use super::signals::Signals;
use crate::state::{LockHolder, ProcessCondition};

/// The exit status where nobody waits for it any longer.
const UNHEARD: u8 = 125;

/// Between two looks for its end.
const PAUSE: Duration = Duration::from_millis(1);

/// Between two looks at what it does.
const LOOK: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// What the caller heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub notes: Vec<String>,
    pub started: bool,
    /// The exit status, and why.
    pub failed: Option<(u8, String)>,
}

/// Who goes on.
#[derive(Debug)]
pub(super) enum Split {
    /// The one who was called, once the supervisor has started the container or given up.
    Caller(Heard),
    /// The supervisor.
    Supervisor(Observer),
}

/// Makes the supervisor, which has none of the descriptors that this program was started with.
///
/// # Errors
/// No process is to be had.
pub(super) fn split() -> io::Result<Split> {
    let (ours, theirs) = pipe()?;
    match fork()? {
        Side::Child => {
            drop(ours);
            leave_parent()?;
            Ok(Split::Supervisor(Observer::Caller(File::from(theirs))))
        }
        Side::Parent(supervisor) => {
            drop(theirs);
            let mut signals = Signals::catch()?;
            hear(ours, supervisor, &mut signals).map(Split::Caller)
        }
    }
}

/// Reads to the end. Where a signal comes, or the supervisor does not go on for too long, that is to end, and its end is
/// waited for: nothing is started behind the caller's back.
fn hear(pipe: OwnedFd, supervisor: Pid, signals: &mut Signals) -> io::Result<Heard> {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    let mut patience = SupervisorPatience::new();
    let mut given_up: Option<GivenUp> = None;
    loop {
        let mut waited = [
            PollFd::new(&pipe, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        let polled = poll(&mut waited, Some(&LOOK));
        let is_ready = !waited[0].revents().is_empty();
        match &given_up {
            None => {
                let holder = LockHolder::new(Some(supervisor));
                let late = matches!(polled, Ok(0))
                    .then(|| patience.ends(holder))
                    .flatten();
                let failed = match signals.ending()? {
                    Some(signal) => Some((
                        128 + signal as u8,
                        format!("interrupted by signal {signal} while the container was made"),
                    )),
                    None => late.map(|why| (UNHEARD, why)),
                };
                given_up = failed.map(|failed| GivenUp::tell(supervisor, failed));
            }
            Some(given_up) => given_up.insist(supervisor),
        }
        if !is_ready {
            continue;
        }
        match rustix::io::read(&pipe, &mut piece) {
            Ok(0) => break,
            Ok(length) => said.extend_from_slice(&piece[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut heard = Heard::of(&said);
    if !heard.started {
        // Whoever is the last in the cgroup that was made for them removes it.
        reap(supervisor);
        heard.failed = given_up.map(|it| it.failed).or(heard.failed);
    }
    Ok(heard)
}

/// A supervisor that is to end.
struct GivenUp {
    since: Instant,
    /// The exit status, and why.
    failed: (u8, String),
}

impl GivenUp {
    /// Asks it to clean up and end; one that is stopped goes on for that.
    fn tell(supervisor: Pid, failed: (u8, String)) -> Self {
        for signal in [Signal::TERM, Signal::CONT] {
            // It is a child of this process: nobody else has its number.
            let _ = kill_process(supervisor, signal);
        }
        let since = Instant::now();
        Self { since, failed }
    }

    /// Kills it where it does not end: what it leaves is removed by the next look.
    fn insist(&self, supervisor: Pid) {
        if self.since.elapsed() > SupervisorPatience::STOPPED {
            let _ = kill_process(supervisor, Signal::KILL);
        }
    }
}

/// Waits for a child that has just ended, or is about to.
pub(super) fn reap(child: Pid) {
    let deadline = Instant::now() + SupervisorPatience::STOPPED;
    loop {
        match waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(None) if Instant::now() < deadline => sleep(PAUSE),
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}

/// How long a supervisor may take: one that works unpacks an image, one that is stopped does nothing.
struct SupervisorPatience {
    began: Instant,
    /// Since when it is stopped.
    stopped: Option<Instant>,
}

impl SupervisorPatience {
    const WORKING: Duration = Duration::from_secs(600);
    const STOPPED: Duration = Duration::from_secs(10);

    fn new() -> Self {
        Self {
            began: Instant::now(),
            stopped: None,
        }
    }

    /// Why nobody waits for it any longer.
    fn ends(&mut self, supervisor: LockHolder) -> Option<String> {
        self.stopped = match supervisor.condition() {
            ProcessCondition::Stopped | ProcessCondition::Traced => {
                self.stopped.or(Some(Instant::now()))
            }
            _ => None,
        };
        let is_over = self.began.elapsed() > Self::WORKING
            || self
                .stopped
                .is_some_and(|since| since.elapsed() > Self::STOPPED);
        is_over.then(|| {
            let seconds = self.began.elapsed().as_secs();
            format!(
                "waited {seconds} s for the container to be made by its supervisor: {supervisor}"
            )
        })
    }
}

impl Heard {
    fn of(messages: &[u8]) -> Self {
        let mut heard = Self::default();
        let lines = messages.split(|&byte| byte == b'\n');
        for message in lines.filter_map(|line| parse(line).ok()) {
            match message {
                SupervisorMessage::Note(note) => heard.notes.push(note),
                SupervisorMessage::Started { .. } => heard.started = true,
                SupervisorMessage::Failed { status, why } => heard.failed = Some((status, why)),
                SupervisorMessage::Limited(_) | SupervisorMessage::Ended { .. } => {}
            }
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::super::Error;
    use super::*;

    fn heard(report: impl FnOnce(&mut Observer)) -> Heard {
        let (ours, theirs) = pipe().unwrap();
        let mut observer = Observer::Caller(File::from(theirs));
        report(&mut observer);
        drop(observer);
        let mut messages = Vec::new();
        io::Read::read_to_end(&mut File::from(ours), &mut messages).unwrap();
        Heard::of(&messages)
    }

    #[test]
    fn the_caller_hears_what_the_supervisor_reports() {
        assert_eq!(heard(|_| {}), Heard::default());
        let reported = heard(|supervisor| {
            supervisor.note("a\nb");
            supervisor.started(1);
            supervisor.failed(&Error::SupervisorKilled);
        });
        assert_eq!(reported.notes, ["a\nb"]);
        assert!(reported.started);
        assert_eq!(reported.failed, None);
        let why = Error::SupervisorKilled.to_string();
        let reported = heard(|supervisor| supervisor.failed(&Error::SupervisorKilled));
        assert_eq!(reported.failed, Some((125, why)));
    }
}
