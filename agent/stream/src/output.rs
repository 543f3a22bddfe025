//! From a source of records to a pipe, a file or a terminal.
//!
//! Writing may block for as long as the reader likes, so it has a thread of its own; the rest goes
//! on watching the clock, the source and whether anybody still reads.

use std::future::pending;
use std::io::{self, ErrorKind, Write};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::client::ClientError;
use super::source::EventSource;
pub use super::writer::{HumanScreen, OutputEnd, OutputFormat};
use super::writer::{OutputItem, WriteError, write_all};

/// Records between the source and the writing thread.
const QUEUE: usize = 256;
/// What a reader may take to read the last records once the time is up.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// When to end.
#[derive(Clone, Copy, Debug, Default)]
pub struct StopAfter {
    /// After so many records, not counting `lost`.
    pub records: Option<NonZeroU64>,
    pub time: Option<Duration>,
}

/// Why the output ended badly.
#[derive(Debug, Error)]
pub enum OutputError {
    #[error(transparent)]
    Source(#[from] ClientError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot start a thread for the output")]
    Thread(#[source] io::Error),
    #[error("the thread of the output died")]
    ThreadDied,
}

/// Writes what `source` gives to `writer` until a bound is reached, `closed` is ready or the
/// source ends. At a bound of time, a reader that does not read is not waited for.
pub async fn run<W>(
    source: EventSource,
    writer: W,
    closed: impl Future<Output = ()>,
    format: OutputFormat,
    bounds: StopAfter,
) -> Result<OutputEnd, OutputError>
where
    W: Write + Send + 'static,
{
    let (items, queue) = mpsc::channel(QUEUE);
    let mut written = pin!(start_writer(queue, writer, format, bounds.records)?);
    let mut closed = pin!(closed);
    let time_up = async {
        match bounds.time {
            Some(time) => sleep(time).await,
            None => pending().await,
        }
    };
    // What is not chosen is dropped with the queue's sender, so that the writer comes to its end.
    let fed = tokio::select! {
        biased;
        end = &mut written => return end,
        () = &mut closed => return Ok(OutputEnd::Closed),
        () = time_up => None,
        fed = feed(source, items) => Some(fed),
    };
    let Some(fed) = fed else {
        return match timeout(DRAIN_WITHIN, written).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Ok(OutputEnd::Bound),
        };
    };
    let end = tokio::select! {
        end = written => end?,
        () = closed => OutputEnd::Closed,
    };
    // A reader that has all it wants is not told of how the source ended.
    if end == OutputEnd::Source {
        fed?;
    }
    Ok(end)
}

/// Ready once nobody can read what is written to `output`, even if nothing is ever written.
/// A file or a terminal is never closed so.
pub fn closed(output: OwnedFd) -> io::Result<impl Future<Output = ()>> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new()
        .name("output-closed".into())
        .spawn(move || {
            if wait_closed(&output).is_ok() {
                // Nobody receives it where the output ended otherwise.
                let _ = sender.send(());
            }
        })?;
    Ok(async {
        if receiver.await.is_err() {
            // poll(2) does not work on this output: the next write tells.
            pending().await
        }
    })
}

/// Waits for POLLERR (a pipe without readers) or POLLHUP, which poll(2) always reports.
fn wait_closed(output: &OwnedFd) -> io::Result<()> {
    let mut fds = [PollFd::new(output, PollFlags::empty())];
    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    Ok(())
}

async fn feed(mut source: EventSource, items: mpsc::Sender<OutputItem>) -> Result<(), ClientError> {
    while let Some(item) = source.next().await {
        if items.send(item?).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Starts the writing thread; its end is the future's.
fn start_writer<W>(
    queue: mpsc::Receiver<OutputItem>,
    writer: W,
    format: OutputFormat,
    limit: Option<NonZeroU64>,
) -> Result<impl Future<Output = Result<OutputEnd, OutputError>>, OutputError>
where
    W: Write + Send + 'static,
{
    let (sender, written) = oneshot::channel();
    let write = move || {
        let end = match write_all(queue, writer, format, limit) {
            Err(WriteError::Io(error)) if error.kind() == ErrorKind::BrokenPipe => {
                Ok(OutputEnd::Closed)
            }
            end => end,
        };
        // Nobody receives it where the time is up.
        let _ = sender.send(end.map_err(OutputError::Write));
    };
    thread::Builder::new()
        .name("output".into())
        .spawn(write)
        .map_err(OutputError::Thread)?;
    Ok(async { written.await.unwrap_or(Err(OutputError::ThreadDied)) })
}

#[cfg(test)]
mod tests;
