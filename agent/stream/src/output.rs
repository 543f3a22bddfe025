//! Writes the events of a source to a pipe, a file or a terminal.
//!
//! A write may block for as long as the reader likes, so a separate thread writes. The async side meanwhile watches the
//! clock, the source, and whether the output still has a reader.

use std::borrow::Cow;
use std::future::pending;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use agent_model::text::{escape, escape_json, fit};
use memchr::memchr;
use memchr::memmem::Finder;
use rustix::event::{PollFd, PollFlags, poll};
use thiserror::Error;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::client::{ClientError, EventSource, SourceItem};
use super::human;
use super::kind::EventKind;
use super::stream_event::StreamEvent;

/// The capacity of the queue between the source and the writing thread.
const QUEUE: usize = 256;
/// How long a reader may take to read the last events once the time is up.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// When an output ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct StopAfter {
    /// After this many events, not counting `lost`.
    pub events: Option<NonZeroU64>,
    /// After this time.
    pub time: Option<Duration>,
}

/// Why an output failed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what each variant is")]
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

/// Writes the events of `source` to `writer` until a bound is reached, `closed` is ready or the source ends. At the bound
/// of time, the output waits a second at most for its reader.
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
    let mut written = pin!(start_writer(queue, writer, format, bounds.events)?);
    let mut closed = pin!(closed);
    let time_up = async {
        match bounds.time {
            Some(time) => sleep(time).await,
            None => pending().await,
        }
    };
    // `select!` drops the other futures, and with `feed` the queue's sender, so that the writing thread ends.
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
    // How the source ended does not matter to a reader that has all it wants.
    if end == OutputEnd::Source {
        fed?;
    }
    Ok(end)
}

/// A future that is ready once nobody can read what is written to `output`, even if nothing is ever written. For a file
/// or a terminal it is never ready.
pub fn closed(output: OwnedFd) -> io::Result<impl Future<Output = ()>> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new()
        .name("output-closed".into())
        .spawn(move || {
            if wait_closed(&output).is_ok() {
                // Nobody receives it if the output ended otherwise.
                let _ = sender.send(());
            }
        })?;
    Ok(async {
        if receiver.await.is_err() {
            // poll(2) does not work on this output: the next write reports a closed one.
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

async fn feed(mut source: EventSource, items: mpsc::Sender<SourceItem>) -> Result<(), ClientError> {
    while let Some(item) = source.next().await {
        if items.send(item?).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Starts the writing thread. The future is ready when the thread ends.
fn start_writer<W>(
    queue: mpsc::Receiver<SourceItem>,
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
        // Nobody receives it if the time is up.
        let _ = sender.send(end.map_err(OutputError::Write));
    };
    thread::Builder::new()
        .name("output".into())
        .spawn(write)
        .map_err(OutputError::Thread)?;
    Ok(async { written.await.unwrap_or(Err(OutputError::ThreadDied)) })
}

/// The most bytes that the writing thread gathers before a write, while more events are queued.
const BUFFER: usize = 1 << 16;
/// The columns of a bad line that an error message shows.
const EXCERPT: usize = 80;

/// How an output writes an event.
#[derive(Clone, Copy, Debug)]
pub enum OutputFormat {
    /// One JSON object a line.
    Json,
    /// A line for people.
    Human(HumanScreen),
}

/// The screen that shows lines for people.
#[derive(Clone, Copy, Debug)]
pub struct HumanScreen {
    /// Gives the current width in columns.
    pub columns: fn() -> usize,
    /// Whether lines have colours.
    pub colour: bool,
    /// Whether the first line names the columns.
    pub header: bool,
}

impl HumanScreen {
    fn header(self) -> String {
        human::header((self.columns)(), self.colour)
    }

    fn line(self, event: &StreamEvent) -> OutputLine<'static> {
        OutputLine {
            text: (human::line(event, (self.columns)(), self.colour) + "\n").into(),
            is_lost: is_lost(event),
        }
    }
}

/// Why an output ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputEnd {
    /// A bound of events or time was reached.
    Bound,
    /// The reader closed the output.
    Closed,
    /// The source has ended, and all of its events are written.
    Source,
}

/// Why an event could not be written.
#[derive(Debug, Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
pub enum WriteError {
    #[error(
        "not an event that this agent knows: {line}; are agent serve and agent watch of one version?"
    )]
    NotAnEvent {
        /// The start of the line, escaped.
        line: String,
        source: serde_json::Error,
    },
    #[error("cannot write an event as JSON")]
    Json(#[source] serde_json::Error),
    #[error("cannot write to the output")]
    Io(#[source] io::Error),
}

/// Writes what the queue holds until it ends, or until `limit` events are written, not counting `lost`. Blocks.
fn write_all(
    mut queue: mpsc::Receiver<SourceItem>,
    writer: impl Write,
    format: OutputFormat,
    limit: Option<NonZeroU64>,
) -> Result<OutputEnd, WriteError> {
    let mut out = BufWriter::with_capacity(BUFFER, writer);
    if let OutputFormat::Human(screen) = format
        && screen.header
    {
        writeln!(out, "{}", screen.header()).map_err(WriteError::Io)?;
    }
    let mut left = limit.map(NonZeroU64::get);
    while left != Some(0) {
        let Some(item) = next(&mut queue, &mut out).map_err(WriteError::Io)? else {
            return Ok(OutputEnd::Source);
        };
        match item {
            SourceItem::Event(event) => write_line(format.event(&event)?, &mut out, &mut left)?,
            SourceItem::Lines(lines) => {
                for line in split(&lines) {
                    if line != b"\n" && left != Some(0) {
                        write_line(format.served(line)?, &mut out, &mut left)?;
                    }
                }
            }
        }
    }
    out.flush().map_err(WriteError::Io)?;
    Ok(OutputEnd::Bound)
}

/// The lines, with their line ends. At 100,000 lines a second, a loop over bytes takes longer than the write.
fn split(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = memchr(b'\n', lines).map_or(lines.len(), |at| at + 1);
        let line = lines.split_off(..end)?;
        (!line.is_empty()).then_some(line)
    })
}

/// Writes a line in one piece, so that the buffer is never flushed within it, and counts down `left`.
fn write_line(
    line: OutputLine<'_>,
    out: &mut impl Write,
    left: &mut Option<u64>,
) -> Result<(), WriteError> {
    out.write_all(line.text.as_bytes())
        .map_err(WriteError::Io)?;
    if let Some(left) = left
        && !line.is_lost
    {
        *left -= 1;
    }
    Ok(())
}

/// The next item. If the queue is empty, the buffer is flushed first.
fn next(
    queue: &mut mpsc::Receiver<SourceItem>,
    out: &mut impl Write,
) -> io::Result<Option<SourceItem>> {
    match queue.try_recv() {
        Ok(item) => Ok(Some(item)),
        Err(TryRecvError::Empty) => {
            out.flush()?;
            Ok(queue.blocking_recv())
        }
        Err(TryRecvError::Disconnected) => {
            out.flush()?;
            Ok(None)
        }
    }
}

/// An event as it is written.
struct OutputLine<'a> {
    /// With its line end.
    text: Cow<'a, str>,
    is_lost: bool,
}

impl OutputFormat {
    fn event(self, event: &StreamEvent) -> Result<OutputLine<'static>, WriteError> {
        match self {
            Self::Json => {
                let json = serde_json::to_string(event).map_err(WriteError::Json)?;
                Ok(OutputLine {
                    text: (escape_json(&json).into_owned() + "\n").into(),
                    is_lost: is_lost(event),
                })
            }
            Self::Human(screen) => Ok(screen.line(event)),
        }
    }

    /// A line of the server, with its line end.
    fn served(self, line: &[u8]) -> Result<OutputLine<'_>, WriteError> {
        match self {
            Self::Json => passed_on(line).map_err(|source| not_an_event(line, source)),
            Self::Human(screen) => {
                let event = serde_json::from_slice(line);
                let event = event.map_err(|source| not_an_event(line, source))?;
                Ok(screen.line(&event))
            }
        }
    }
}

/// A line of the server unchanged, so that it keeps kinds and fields that this agent does not know. The line is checked,
/// not parsed: there may be 100,000 a second.
fn passed_on(line: &[u8]) -> Result<OutputLine<'_>, serde_json::Error> {
    let wrong = |wanted| Err(serde::de::Error::custom(wanted));
    let Ok(line) = std::str::from_utf8(line) else {
        return wrong("it is not UTF-8");
    };
    let json = line.trim_end();
    if !json.starts_with('{') || !json.ends_with('}') {
        return wrong("it is no JSON object");
    }
    if KIND.find(json.as_bytes()).is_none() {
        return wrong("it has no kind");
    }
    Ok(OutputLine {
        text: match escape_json(json) {
            Cow::Borrowed(_) => line.into(),
            // JSON has no control character within a string, and a server writes none between strings.
            Cow::Owned(_) if json.bytes().any(|byte| byte < b' ') => {
                return wrong("it has a control character");
            }
            Cow::Owned(escaped) => (escaped + "\n").into(),
        },
        // A string value cannot match, as its quotes have backslashes. No other object has the kind `lost`.
        is_lost: LOST.find(json.as_bytes()).is_some(),
    })
}

/// Finds the text that every event's line contains.
static KIND: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(r#""kind":""#));

/// Finds the text that only the line of a `lost` event contains.
static LOST: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(r#""kind":"lost""#));

fn is_lost(event: &StreamEvent) -> bool {
    EventKind::of(&event.details) == EventKind::Lost
}

fn not_an_event(line: &[u8], source: serde_json::Error) -> WriteError {
    let line = String::from_utf8_lossy(line.trim_ascii_end());
    WriteError::NotAnEvent {
        line: fit(&escape(&line), EXCERPT).into_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
