//! Records as lines, into whatever takes bytes.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroU64;
use std::sync::{Arc, LazyLock};

use agent_model::text::{escape, escape_json, fit};
use hyper::body::Bytes;
use memchr::memchr;
use memchr::memmem::Finder;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::stream_event::StreamEvent;
use super::human;
use super::kind::EventKind;

/// Bytes that are gathered before a write, while more records wait.
const BUFFER: usize = 1 << 16;
/// Columns of a line that is no event, in the error that tells of it.
const EXCERPT: usize = 80;

/// What is to be written.
#[derive(Debug)]
pub enum OutputItem {
    /// Records in JSON, a line each, as the server wrote them.
    Lines(Bytes),
    Event(Arc<StreamEvent>),
}

/// How a record is written.
#[derive(Clone, Copy, Debug)]
pub enum OutputFormat {
    /// One JSON object a line.
    Json,
    Human(HumanScreen),
}

/// What shows human lines.
#[derive(Clone, Copy, Debug)]
pub struct HumanScreen {
    /// The columns of a line, which may change.
    pub columns: fn() -> usize,
    pub colour: bool,
    /// Whether the columns' names come first.
    pub header: bool,
}

impl HumanScreen {
    fn header(self) -> String {
        human::header((self.columns)(), self.colour)
    }

    fn line(self, record: &StreamEvent) -> OutputLine<'static> {
        OutputLine {
            text: (human::line(record, (self.columns)(), self.colour) + "\n").into(),
            is_lost: is_lost(record),
        }
    }
}

/// Why the output ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputEnd {
    /// A bound of records or time was reached.
    Bound,
    /// Nobody reads any more.
    Closed,
    /// The source has ended, and all of it is written.
    Source,
}

/// Why a record could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    #[error(
        "not an event that this agent knows: {line}; are agent serve and agent watch of one version?"
    )]
    NotAnEvent {
        /// The start of it, escaped.
        line: String,
        source: serde_json::Error,
    },
    #[error("cannot write an event as JSON")]
    Json(#[source] serde_json::Error),
    #[error("cannot write to the output")]
    Io(#[source] io::Error),
}

/// Writes what the queue gives, until its end or so many records, not counting `lost`. Blocks.
pub fn write_all(
    mut queue: mpsc::Receiver<OutputItem>,
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
            OutputItem::Event(record) => write_line(format.record(&record)?, &mut out, &mut left)?,
            OutputItem::Lines(lines) => {
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

/// The lines, with their ends. At 100,000 a second, to look at each byte by itself takes more than to write.
fn split(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = memchr(b'\n', lines).map_or(lines.len(), |at| at + 1);
        let line = lines.split_off(..end)?;
        (!line.is_empty()).then_some(line)
    })
}

/// Writes a line, in one piece, so that the buffer is never flushed within it; one less is `left`.
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

/// The next item. While there is none, nothing waits in the buffer.
fn next(
    queue: &mut mpsc::Receiver<OutputItem>,
    out: &mut impl Write,
) -> io::Result<Option<OutputItem>> {
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

/// A record as it is written.
struct OutputLine<'a> {
    /// With its end.
    text: Cow<'a, str>,
    is_lost: bool,
}

impl OutputFormat {
    fn record(self, record: &StreamEvent) -> Result<OutputLine<'static>, WriteError> {
        match self {
            Self::Json => {
                let json = serde_json::to_string(record).map_err(WriteError::Json)?;
                Ok(OutputLine {
                    text: (escape_json(&json).into_owned() + "\n").into(),
                    is_lost: is_lost(record),
                })
            }
            Self::Human(screen) => Ok(screen.line(record)),
        }
    }

    /// A line of the server, with its end.
    fn served(self, line: &[u8]) -> Result<OutputLine<'_>, WriteError> {
        match self {
            Self::Json => passed_on(line).map_err(|source| not_an_event(line, source)),
            Self::Human(screen) => {
                let record = serde_json::from_slice(line);
                let record = record.map_err(|source| not_an_event(line, source))?;
                Ok(screen.line(&record))
            }
        }
    }
}

/// A line of the server as it is, so that kinds and fields which this agent does not know get
/// through. Of an object with a kind no more is looked at than that: there may be 100,000 a second.
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
            // JSON has none within a string, and a server writes none around them.
            Cow::Owned(_) if json.bytes().any(|byte| byte < b' ') => {
                return wrong("it has a control character");
            }
            Cow::Owned(escaped) => (escaped + "\n").into(),
        },
        // Within a string the quotes would have backslashes, and no other object has this kind.
        is_lost: LOST.find(json.as_bytes()).is_some(),
    })
}

/// In the line of every record.
static KIND: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(r#""kind":""#));

/// In the line of a record of [`EventKind::Lost`], and in no other.
static LOST: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(r#""kind":"lost""#));

fn is_lost(record: &StreamEvent) -> bool {
    EventKind::of(&record.event) == EventKind::Lost
}

fn not_an_event(line: &[u8], source: serde_json::Error) -> WriteError {
    let line = String::from_utf8_lossy(line.trim_ascii_end());
    WriteError::NotAnEvent {
        line: fit(&escape(&line), EXCERPT).into_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    const HUMAN: OutputFormat = OutputFormat::Human(HumanScreen {
        columns: || 80,
        colour: false,
        header: false,
    });

    fn write(
        format: OutputFormat,
        items: impl IntoIterator<Item = OutputItem>,
    ) -> (Result<OutputEnd, WriteError>, String) {
        let (sender, queue) = mpsc::channel(16);
        for item in items {
            sender.try_send(item).unwrap();
        }
        drop(sender);
        let mut out = Vec::new();
        let end = write_all(queue, &mut out, format, None);
        (end, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_record_is_the_same_from_here_and_from_the_server() {
        for record in [samples::unshare(), samples::oom(), samples::lost()] {
            let json = serde_json::to_string(&record).unwrap();
            let human = human::line(&record, 80, false);
            for (format, text) in [(OutputFormat::Json, json.clone()), (HUMAN, human)] {
                let served = OutputItem::Lines((json.clone() + "\n").into());
                let own = OutputItem::Event(Arc::new(record.clone()));
                let (end, written) = write(format, [served, own]);
                assert_eq!(end.unwrap(), OutputEnd::Source);
                assert_eq!(written, format!("{text}\n{text}\n"));
            }
        }
    }

    #[test]
    fn a_servers_json_is_passed_on_but_for_what_is_hidden() {
        for (line, written) in [
            (
                r#"{"kind":"later","new":[1.50]}"#,
                r#"{"kind":"later","new":[1.50]}"#,
            ),
            (
                "{\"kind\":\"\u{9b}2J\u{202e}\"}",
                r#"{"kind":"\u009b2J\u202e"}"#,
            ),
        ] {
            let (end, output) = write(
                OutputFormat::Json,
                [OutputItem::Lines((line.to_owned() + "\n").into())],
            );
            assert_eq!(end.unwrap(), OutputEnd::Source);
            assert_eq!(output, format!("{written}\n"));
        }
    }

    #[test]
    fn a_line_that_is_no_event_is_told_after_those_before() {
        for (format, line) in [
            (HUMAN, &b"{\"kind\":\"later\",\"time\":\"\x1b[31m\"}"[..]),
            (HUMAN, b"{\"time\":\"\"}"),
            (OutputFormat::Json, b"{\"time\":\"\"}"),
            (OutputFormat::Json, b"not json"),
            (OutputFormat::Json, b"{\"kind\":\"\x1b[2J\"}"),
            (OutputFormat::Json, b"{\"kind\":\"exec\"}\x1b[2J{}"),
            (OutputFormat::Json, b"{\"kind\":\"exec\"}\r{}"),
            (OutputFormat::Json, b"{\"kind\":\"\xff\"}"),
        ] {
            let items = [
                OutputItem::Event(Arc::new(samples::lost())),
                OutputItem::Lines(line.into()),
            ];
            let (end, written) = write(format, items);
            assert_eq!(written.lines().count(), 1);
            let error = end.unwrap_err();
            assert!(matches!(error, WriteError::NotAnEvent { .. }), "{error:?}");
            assert_eq!(escape(&error.to_string()), error.to_string());
        }
    }
}
