//! A supervisor of its own for a container that is to outlive the command that started it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;

use super::relay::pipe;
use crate::runtime::state::{Condition, Holder};
use crate::sys::fork::{Side, fork, leave_parent};

/// What the supervisor tells its caller, each in a line: a tag, and text.
/// First, the number of its process.
const SELF: u8 = b'p';
const NOTE: u8 = b'n';
const STARTED: u8 = b's';
/// With the exit status in front of the text, as three digits.
const FAILED: u8 = b'f';

/// The exit status where nobody waits for it any longer.
const UNHEARD: u8 = 125;

/// Between two looks at what it does.
const LOOK: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Where the supervisor tells how it goes.
#[derive(Debug)]
pub struct Caller(Option<File>);

/// What the caller heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub notes: Vec<String>,
    pub started: bool,
    /// The exit status, and why.
    pub failed: Option<(u8, String)>,
}

/// Who goes on.
#[derive(Debug)]
pub enum Split {
    /// The one who was called, once the supervisor has started the container or given up.
    Caller(Heard),
    /// The supervisor.
    Supervisor(Caller),
}

/// Makes the supervisor, which has no other descriptors of this process's than `kept`.
///
/// # Errors
/// No process is to be had.
pub fn split(kept: &[BorrowedFd<'_>]) -> io::Result<Split> {
    let (ours, theirs) = pipe()?;
    match fork()? {
        Side::Child => {
            drop(ours);
            leave_parent(&[kept, &[theirs.as_fd()]].concat())?;
            let mut caller = Caller(Some(File::from(theirs)));
            caller.tell(SELF, &std::process::id().to_string());
            Ok(Split::Supervisor(caller))
        }
        Side::Parent(_) => {
            drop(theirs);
            hear(ours).map(Split::Caller)
        }
    }
}

impl Caller {
    pub fn note(&mut self, text: &str) {
        self.tell(NOTE, text);
    }

    /// The container runs: the caller may go.
    pub fn started(&mut self) {
        self.tell(STARTED, "");
        self.0 = None;
    }

    pub fn failed(&mut self, status: u8, why: &str) {
        self.tell(FAILED, &format!("{status:03}{why}"));
        self.0 = None;
    }

    fn tell(&mut self, tag: u8, text: &str) {
        if let Some(pipe) = &mut self.0 {
            let mut line = vec![tag];
            line.extend(
                text.bytes()
                    .map(|byte| if byte == b'\n' { b' ' } else { byte }),
            );
            line.push(b'\n');
            // The caller may have been killed: the container starts all the same.
            let _ = pipe.write_all(&line);
        }
    }
}

/// Reads to the end, or until the supervisor does not go on for too long.
fn hear(pipe: OwnedFd) -> io::Result<Heard> {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    let mut patience = Patience::new();
    loop {
        let mut waited = [PollFd::new(&pipe, PollFlags::IN)];
        if poll(&mut waited, Some(&LOOK)) == Ok(0) {
            if let Some(why) = patience.ends(supervisor(&said)) {
                let failed = Some((UNHEARD, why));
                return Ok(Heard {
                    failed,
                    ..Heard::of(&said)
                });
            }
            continue;
        }
        match rustix::io::read(&pipe, &mut piece) {
            Ok(0) => return Ok(Heard::of(&said)),
            Ok(length) => said.extend_from_slice(&piece[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Who it is, as it has said first.
fn supervisor(said: &[u8]) -> Option<Holder> {
    let line = said.split(|&byte| byte == b'\n').next()?;
    let number = str::from_utf8(line.strip_prefix(&[SELF])?).ok()?;
    Some(Holder::new(Pid::from_raw(number.parse().ok()?)))
}

/// How long a supervisor may take: one that works unpacks an image, one that is stopped does nothing.
struct Patience {
    began: Instant,
    /// Since when it is stopped.
    stopped: Option<Instant>,
}

impl Patience {
    const WORKING: Duration = Duration::from_secs(600);
    const STOPPED: Duration = Duration::from_secs(10);

    fn new() -> Self {
        Self {
            began: Instant::now(),
            stopped: None,
        }
    }

    /// Why nobody waits for it any longer.
    fn ends(&mut self, supervisor: Option<Holder>) -> Option<String> {
        let supervisor = supervisor?;
        self.stopped = match supervisor.condition() {
            Condition::Stopped | Condition::Traced => self.stopped.or(Some(Instant::now())),
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
    fn of(said: &[u8]) -> Self {
        let mut heard = Heard::default();
        for line in said.split(|&byte| byte == b'\n') {
            let Some((tag, text)) = line.split_first() else {
                continue;
            };
            let text = String::from_utf8_lossy(text);
            match *tag {
                SELF => {}
                NOTE => heard.notes.push(text.into_owned()),
                STARTED => heard.started = true,
                _ => {
                    let split = text.split_at_checked(3);
                    let failed = split
                        .and_then(|(status, why)| Some((status.parse().ok()?, why.to_owned())));
                    heard.failed = failed.or(heard.failed);
                }
            }
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(tell: impl FnOnce(&mut Caller)) -> Heard {
        let (ours, theirs) = pipe().unwrap();
        let mut caller = Caller(Some(File::from(theirs)));
        tell(&mut caller);
        drop(caller);
        hear(ours).unwrap()
    }

    #[test]
    fn the_caller_hears_what_the_supervisor_tells() {
        assert_eq!(heard(|_| {}), Heard::default());
        let told = heard(|caller| {
            caller.note("a\nb");
            caller.started();
            caller.failed(125, "after the start nobody is told");
        });
        assert_eq!(told.notes, ["a b"]);
        assert!(told.started);
        assert_eq!(told.failed, None);
        let told = heard(|caller| caller.failed(7, "x: y"));
        assert_eq!(told.failed, Some((7, "x: y".to_owned())));
    }
}
