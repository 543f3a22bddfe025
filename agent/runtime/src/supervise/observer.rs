//! The protocol between a supervisor and the process that started it.
//!
//! The supervisor sends each [`SupervisorMessage`] as a line of JSON. A verifier answers with lines too: after
//! [`SupervisorMessage::Limited`] and [`SupervisorMessage::Ended`] the supervisor waits for [`VerifierAnswer::Go`].

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use agent_host::membership::Membership;
use agent_model::limit::{Device, Kind};
use agent_model::text;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::cgroup::{Cgroup, Evidence};

/// A message of a supervisor to its observer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SupervisorMessage {
    /// A text for the user.
    Note(String),
    /// The container's cgroup exists, with all its limits.
    Limited(Limited),
    /// The container's command runs.
    Started {
        /// The pid of the init process in the host's pid namespace.
        pid: i32,
    },
    /// All processes of the container have ended, and its cgroup still exists.
    Ended {
        /// The exit status, or 128 plus the number of the signal that killed the init process.
        code: u8,
    },
    /// The container could not be started or not be removed.
    Failed {
        /// The exit status that docker gives this failure.
        status: u8,
        /// The error in one line.
        why: String,
    },
}

/// An answer of a verifier to its supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifierAnswer {
    /// The supervisor takes the next step.
    Go,
    /// The supervisor kills the container.
    Stop,
}

/// A cgroup with its limits. On v2 the init process may be in it already, but does not run the command yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    /// The path of the cgroup, as [`Cgroup::path`] returns it.
    pub cgroup: String,
    /// The cgroups of the init process in all hierarchies, once it runs the command.
    pub membership: Membership,
    /// The limits that the supervisor wrote.
    pub written: Vec<Written>,
}

/// A limit that the supervisor wrote to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The kind of the limit.
    pub kind: Kind,
    /// The device, where the limit is on a rate of a device.
    pub device: Option<Device>,
    /// The path of the file.
    pub file: String,
    /// The text that was written.
    pub text: String,
}

/// Encodes a message or an answer as a line.
#[must_use]
pub fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Decodes a line.
///
/// # Errors
/// The line is not what the other side of this version sends.
pub fn parse<T: DeserializeOwned>(line: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(line)?)
}

/// The receiver of a supervisor's messages.
#[derive(Debug)]
pub(super) enum Observer {
    /// The user reads standard error.
    User,
    /// The command that made the supervisor. It reads this pipe until the container has started.
    Caller(File),
    /// The command that made the supervisor has got its answer and left.
    Nobody,
    /// A verifier, which looks at the container before it runs, and before it is removed.
    Verifier {
        messages: UnixStream,
        answers: BufReader<UnixStream>,
    },
}

impl Observer {
    /// Makes an observer that is a verifier.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub(super) fn verifier(stream: UnixStream) -> io::Result<Self> {
        Ok(Self::Verifier {
            answers: BufReader::new(stream.try_clone()?),
            messages: stream,
        })
    }

    pub(super) fn note(&mut self, note: &str) {
        match self {
            Self::User => text::note(note),
            _ => self.send(&SupervisorMessage::Note(note.to_owned())),
        }
    }

    /// Reports to a verifier that the cgroup has its limits, and waits for its answer.
    pub(super) fn limited(
        &mut self,
        cgroup: &Cgroup,
        joined: impl FnOnce() -> Result<Membership, agent_host::Error>,
    ) -> Result<(), Error> {
        if !self.is_verifier() {
            return Ok(());
        }
        let written = |evidence: &Evidence| Written {
            kind: evidence.kind,
            device: evidence.intended.device(),
            file: evidence.file.display().to_string(),
            text: evidence.written.clone(),
        };
        self.send(&SupervisorMessage::Limited(Limited {
            cgroup: cgroup.path().to_owned(),
            membership: joined().map_err(crate::cgroup::Error::from)?,
            written: cgroup.evidence().iter().map(written).collect(),
        }));
        self.wait();
        Ok(())
    }

    /// Reports that the command runs. A caller leaves after that.
    pub(super) fn started(&mut self, pid: i32) {
        self.send(&SupervisorMessage::Started { pid });
        self.dismiss_caller();
    }

    /// Reports to a verifier that all processes have ended, and waits for its answer.
    pub(super) fn ended(&mut self, code: u8) {
        if self.is_verifier() {
            self.send(&SupervisorMessage::Ended { code });
            self.wait();
        }
    }

    /// Reports why the container could not be started or not be removed. A caller leaves after that.
    pub(super) fn failed(&mut self, error: &Error) {
        self.send(&SupervisorMessage::Failed {
            status: error.status(),
            why: text::error_line(error),
        });
        self.dismiss_caller();
    }

    /// Tells whether a verifier looks at the cgroup before it is removed.
    pub(super) const fn is_verifier(&self) -> bool {
        matches!(self, Self::Verifier { .. })
    }

    /// Returns a descriptor that is readable, or hung up, once the verifier wants the container to end.
    pub(super) fn leash(&self) -> io::Result<Option<OwnedFd>> {
        match self {
            Self::Verifier { messages, .. } => messages.as_fd().try_clone_to_owned().map(Some),
            _ => Ok(None),
        }
    }

    /// Waits for [`VerifierAnswer::Go`]. Returns false where the verifier has gone.
    pub(super) fn wait(&mut self) -> bool {
        let Self::Verifier { answers, .. } = self else {
            return true;
        };
        // The verifier may have sent [`VerifierAnswer::Stop`] before it read that the container had ended.
        let mut lines = answers.by_ref().split(b'\n');
        lines.any(|line| line.and_then(|line| parse(&line)).ok() == Some(VerifierAnswer::Go))
    }

    fn dismiss_caller(&mut self) {
        if let Self::Caller(_) = self {
            *self = Self::Nobody;
        }
    }

    fn send(&mut self, message: &SupervisorMessage) {
        // An observer that was killed must not hold the supervisor up. The next wait shows that a verifier has gone.
        let _ = match self {
            Self::User | Self::Nobody => Ok(()),
            Self::Caller(pipe) => pipe.write_all(&line(message)),
            Self::Verifier { messages, .. } => messages.write_all(&line(message)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_and_the_verifier_is_waited_for() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut observer = Observer::verifier(theirs).unwrap();
        let answers = [VerifierAnswer::Stop, VerifierAnswer::Go].map(|it| line(&it));
        (&ours).write_all(&answers.concat()).unwrap();
        observer.ended(3);
        let mut sent = String::new();
        BufReader::new(&ours).read_line(&mut sent).unwrap();
        assert_eq!(sent, "{\"ended\":{\"code\":3}}\n");
        let message: SupervisorMessage = parse(sent.as_bytes()).unwrap();
        assert_eq!(message, SupervisorMessage::Ended { code: 3 });
        drop(ours);
        assert!(!observer.wait());
        // A verifier that has gone holds up nothing.
        observer.ended(4);
    }
}
