//! The verifier's side of the protocol with a workload's supervisor.

use std::io;
use std::os::unix::net::UnixStream as StdStream;

use agent_runtime::supervise::observer::{Limited, SupervisorMessage, VerifierAnswer, line, parse};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::error::Error;

/// A container that waits to be launched, and the connection to its supervisor.
#[derive(Debug)]
pub struct Supervised {
    messages: Lines<BufReader<OwnedReadHalf>>,
    answers: OwnedWriteHalf,
    pub notes: Vec<String>,
}

impl Supervised {
    /// Takes over the socket of a supervisor. The caller needs a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be registered with the runtime.
    pub fn new(stream: StdStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (messages, answers) = UnixStream::from_std(stream)?.into_split();
        Ok(Self {
            messages: BufReader::new(messages).lines(),
            answers,
            notes: Vec::new(),
        })
    }

    /// Lets the supervisor make the cgroup and write its limits.
    pub async fn limit(&mut self) -> Result<Limited, Error> {
        self.answer(VerifierAnswer::Go).await?;
        loop {
            if let SupervisorMessage::Limited(limited) = self.hear().await? {
                return Ok(limited);
            }
        }
    }

    /// Starts the command, and returns the pid of its init process.
    pub async fn start(&mut self) -> Result<i32, Error> {
        self.answer(VerifierAnswer::Go).await?;
        loop {
            if let SupervisorMessage::Started { pid } = self.hear().await? {
                return Ok(pid);
            }
        }
    }

    /// Waits for the end of all processes of the container, and returns the exit status. A caller may drop the future
    /// and call again.
    pub async fn end(&mut self) -> Result<u8, Error> {
        loop {
            if let SupervisorMessage::Ended { code } = self.hear().await? {
                return Ok(code);
            }
        }
    }

    /// Ends all processes of the container.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.answer(VerifierAnswer::Stop).await
    }

    /// Lets the supervisor remove the cgroup, waits until the supervisor has ended, and returns its notes.
    pub async fn remove(mut self) -> Result<Vec<String>, Error> {
        self.answer(VerifierAnswer::Go).await?;
        while let Some(line) = self.messages.next_line().await? {
            if let Ok(SupervisorMessage::Failed { status, why }) = parse(line.as_bytes()) {
                return Err(Error::Launch { status, why });
            }
        }
        Ok(self.notes)
    }

    async fn hear(&mut self) -> Result<SupervisorMessage, Error> {
        loop {
            let line = self.messages.next_line().await?.ok_or(Error::Killed)?;
            match parse(line.as_bytes())? {
                SupervisorMessage::Note(note) => self.notes.push(note),
                SupervisorMessage::Failed { status, why } => {
                    return Err(Error::Launch { status, why });
                }
                message => return Ok(message),
            }
        }
    }

    async fn answer(&mut self, answer: VerifierAnswer) -> Result<(), Error> {
        match self.answers.write_all(&line(&answer)).await {
            // A supervisor that ended has sent its error. One that was killed sends none.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    }
}
