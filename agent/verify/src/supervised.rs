//! A workload's supervisor, as the verifier talks with it.

use std::io;
use std::os::unix::net::UnixStream as StdStream;

use agent_runtime::supervise::held::{GO, Limited, STOP, Word};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::run::Error;

/// A container that waits to be launched, and its supervisor, which says how it goes.
#[derive(Debug)]
pub struct Supervised {
    words: Lines<BufReader<OwnedReadHalf>>,
    answers: OwnedWriteHalf,
    pub notes: Vec<String>,
}

impl Supervised {
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn new(stream: StdStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (words, answers) = UnixStream::from_std(stream)?.into_split();
        Ok(Self {
            words: BufReader::new(words).lines(),
            answers,
            notes: Vec::new(),
        })
    }

    /// Launches it, as far as its cgroup.
    pub async fn limit(&mut self) -> Result<Limited, Error> {
        self.answer(GO).await?;
        loop {
            if let Word::Limited(limited) = self.hear().await? {
                return Ok(limited);
            }
        }
    }

    /// Starts the command: its first process.
    pub async fn start(&mut self) -> Result<i32, Error> {
        self.answer(GO).await?;
        loop {
            if let Word::Started { pid } = self.hear().await? {
                return Ok(pid);
            }
        }
    }

    /// Waits for the end of all its processes. May be dropped and called again.
    pub async fn end(&mut self) -> Result<u8, Error> {
        loop {
            if let Word::Ended { code } = self.hear().await? {
                return Ok(code);
            }
        }
    }

    /// Ends all its processes.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.answer(STOP).await
    }

    /// Lets its cgroup be removed, and waits until all of it is.
    pub async fn remove(mut self) -> Result<Vec<String>, Error> {
        self.answer(GO).await?;
        while let Some(line) = self.words.next_line().await? {
            if let Ok(Word::Failed { status, why }) = serde_json::from_str(&line) {
                return Err(Error::Launch { status, why });
            }
        }
        Ok(self.notes)
    }

    async fn hear(&mut self) -> Result<Word, Error> {
        loop {
            let line = self.words.next_line().await?.ok_or(Error::Killed)?;
            match serde_json::from_str(&line).map_err(io::Error::from)? {
                Word::Note(note) => self.notes.push(note),
                Word::Failed { status, why } => return Err(Error::Launch { status, why }),
                word => return Ok(word),
            }
        }
    }

    async fn answer(&mut self, text: &str) -> Result<(), Error> {
        match self.answers.write_all(text.as_bytes()).await {
            // Why it has gone, it has said, or is not to be known.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    }
}
