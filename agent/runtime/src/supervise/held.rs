//! Containers that somebody looks at: before they run, while they run, and before they are removed.
//!
//! The supervisor is a copy of this process that waits until it is told to launch. It says how it goes in lines of JSON
//! ([`Word`]), and waits after [`Word::Limited`] and [`Word::Ended`] to be told to go on. When the verifier has gone, or
//! lets go, it ends the container and removes it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use agent_host::membership::Membership;
use agent_host::rootless;
use agent_limits::limit::bound::Bounds;
use agent_limits::limit::{Device, Evidence, Kind};
use agent_model::text;
use agent_sys::fork::{Side, exit, fork, speak_on_errors};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::{Error, Told, contain, detach, settle};
use crate::cgroup::{Cgroup, Ground};
use crate::order::Order;
use crate::state::Store;

/// What tells the supervisor to go on, and what to end the container.
pub const GO: &str = "go\n";
pub const STOP: &str = "stop\n";

/// What a supervisor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    Note(String),
    Limited(Limited),
    Started {
        /// The first process, as the host counts.
        pid: i32,
    },
    Ended {
        /// As the shell has it.
        code: u8,
    },
    Failed {
        status: u8,
        why: String,
    },
}

/// A cgroup that is there, with all its limits. On v2 the first process may be in it, and does not run the command yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    /// Its path, as [`Cgroup::path`] has it.
    pub cgroup: String,
    /// Where the command's first process will be, in all hierarchies.
    pub membership: Membership,
    pub written: Vec<Written>,
}

/// What was written of a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub kind: Kind,
    /// Of a rate.
    pub device: Option<Device>,
    pub file: String,
    pub text: String,
}

/// The supervisor's side.
#[derive(Debug)]
pub struct Verifier {
    words: UnixStream,
    answers: BufReader<UnixStream>,
}

/// What this process is to leave when the supervisors that it holds have ended: dropped, it does so.
#[derive(Debug)]
pub struct Leaving {
    ground: Ground,
    supervisors: Vec<Pid>,
}

impl Leaving {
    /// The limits that this process was under, where the containers are to be under them too.
    pub fn bounds(&self) -> Option<&Bounds> {
        self.ground.bounds()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.ground.leaf().is_some() {
            for supervisor in self.supervisors.drain(..) {
                detach::reap(supervisor);
            }
            self.ground.leave();
        }
    }
}

/// Makes a supervisor for each container, which waits to be told to launch it. What the container writes to its standard
/// output goes to this process's standard error.
///
/// To be called by a process of one thread.
///
/// # Errors
/// No process is to be had, or there is no place for a cgroup.
pub fn hold(orders: Vec<Order>) -> Result<(Vec<UnixStream>, Leaving), Error> {
    let mut held = Vec::new();
    let mut leaving = Leaving {
        ground: settle(&orders)?,
        supervisors: Vec::new(),
    };
    for order in orders {
        let (ours, theirs) = UnixStream::pair().map_err(Error::Detach)?;
        match fork().map_err(Error::Detach)? {
            Side::Parent(supervisor) => {
                held.push(ours);
                leaving.supervisors.push(supervisor);
            }
            Side::Child => {
                // Else it would keep the others from seeing that the verifier has gone.
                drop((ours, held));
                let status = supervise(order, &leaving.ground, theirs);
                exit(i32::from(status))
            }
        }
    }
    Ok((held, leaving))
}

fn supervise(order: Order, ground: &Ground, words: UnixStream) -> u8 {
    let Ok(answers) = words.try_clone() else {
        return 125;
    };
    let mut verifier = Verifier {
        words,
        answers: BufReader::new(answers),
    };
    if !verifier.wait() || speak_on_errors().is_err() {
        return 0;
    }
    let store = Store::of_user();
    let ended = match rootless::enter() {
        Err(error) => Err(error.into()),
        Ok(note) => {
            let notes = note.into_iter().chain(ground.note());
            notes.for_each(|note| verifier.note(&note));
            contain::contain(
                order,
                &store,
                ground,
                None,
                &mut Told::Verifier(&mut verifier),
            )
        }
    };
    ground.leave();
    ended.unwrap_or_else(|error| {
        let (status, why) = (error.status(), text::error_line(&error));
        verifier.say(&Word::Failed { status, why });
        status
    })
}

impl Verifier {
    pub fn note(&mut self, note: &str) {
        self.say(&Word::Note(note.to_owned()));
    }

    pub fn limited(&mut self, cgroup: &Cgroup, membership: Membership) {
        let written = |evidence: &Evidence| Written {
            kind: evidence.kind,
            device: evidence.intended.device(),
            file: evidence.file.display().to_string(),
            text: evidence.written.clone(),
        };
        self.say(&Word::Limited(Limited {
            cgroup: cgroup.path().to_owned(),
            membership,
            written: cgroup.evidence().iter().map(written).collect(),
        }));
        self.wait();
    }

    pub fn started(&mut self, pid: i32) {
        self.say(&Word::Started { pid });
    }

    pub fn ended(&mut self, code: u8) {
        self.say(&Word::Ended { code });
        self.wait();
    }

    /// What is to be read, or hung up, when the container is to end.
    pub fn leash(&self) -> io::Result<OwnedFd> {
        self.words.as_fd().try_clone_to_owned()
    }

    fn say(&mut self, word: &Word) {
        let mut line = serde_json::to_vec(word).unwrap_or_default();
        line.push(b'\n');
        // Whoever does not hear it has gone, and that is seen at the next wait.
        let _ = self.words.write_all(&line);
    }

    /// Waits to be told to go on; false where nobody is there to tell.
    fn wait(&mut self) -> bool {
        // A wish to stop may be older than the end that made it needless.
        let mut lines = self.answers.by_ref().lines();
        lines.any(|line| line.is_ok_and(|line| line == GO.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_in_lines_and_the_holder_is_waited_for() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut verifier = Verifier {
            words: theirs.try_clone().unwrap(),
            answers: BufReader::new(theirs),
        };
        (&ours).write_all([STOP, GO].concat().as_bytes()).unwrap();
        verifier.ended(3);
        let mut line = String::new();
        BufReader::new(&ours).read_line(&mut line).unwrap();
        assert_eq!(line, "{\"ended\":{\"code\":3}}\n");
        let word: Word = serde_json::from_str(&line).unwrap();
        assert_eq!(word, Word::Ended { code: 3 });
        drop(ours);
        assert!(!verifier.wait());
        // Nobody hears it, which holds up nothing.
        verifier.ended(4);
    }
}
