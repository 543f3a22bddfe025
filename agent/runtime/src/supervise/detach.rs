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

/// The exit status of a caller that has given up waiting.
const UNHEARD: u8 = 125;

/// The time between two checks whether a child has ended.
const PAUSE: Duration = Duration::from_millis(1);

/// The time between two checks whether the supervisor makes progress.
const LOOK: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// What the supervisor has reported to the caller.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub notes: Vec<String>,
    pub started: bool,
    /// The exit status, and the reason.
    pub failed: Option<(u8, String)>,
}

/// Which of the two processes this is.
#[derive(Debug)]
pub(super) enum Split {
    /// The caller, once the supervisor has started the container or given up.
    Caller(Heard),
    /// The supervisor.
    Supervisor(Observer),
}

/// Forks the supervisor, which keeps none of the descriptors that this program was started with.
///
/// # Errors
/// The pipe, the process or the signal descriptor cannot be made, or the pipe cannot be read.
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

/// Reads the supervisor's reports to the end. Where a signal comes, or the supervisor takes too long, ends it and waits
/// for its end. So no container is started once the caller has given up.
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
        // The supervisor must be gone before this process removes the cgroup that the agent made for both.
        reap(supervisor);
        heard.failed = given_up.map(|it| it.failed).or(heard.failed);
    }
    Ok(heard)
}

/// The caller's decision to end the supervisor.
struct GivenUp {
    since: Instant,
    /// The exit status, and the reason.
    failed: (u8, String),
}

impl GivenUp {
    /// Asks the supervisor to clean up and end. SIGCONT lets a stopped one do so.
    fn tell(supervisor: Pid, failed: (u8, String)) -> Self {
        for signal in [Signal::TERM, Signal::CONT] {
            // The supervisor is a child that has not been reaped, so no other process has its pid.
            let _ = kill_process(supervisor, signal);
        }
        let since = Instant::now();
        Self { since, failed }
    }

    /// Kills a supervisor that does not end in time. The next sweep removes what it leaves.
    fn insist(&self, supervisor: Pid) {
        if self.since.elapsed() > SupervisorPatience::STOPPED {
            let _ = kill_process(supervisor, Signal::KILL);
        }
    }
}

/// Reaps a child that has ended, or is about to end, and gives up after 10 s.
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

/// How long the caller waits for a supervisor. One that works may have to unpack an image. One that is stopped does
/// nothing.
struct SupervisorPatience {
    began: Instant,
    /// When the supervisor was first found stopped. None where it is not stopped.
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

    /// Returns why the caller waits no longer, once a deadline has passed.
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
