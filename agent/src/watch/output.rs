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
use super::source::Source;
pub use super::writer::{End, Format, Screen};
use super::writer::{Item, WriteError, write_all};

/// Records between the source and the writing thread.
const QUEUE: usize = 256;
/// What a reader may take to read the last records once the time is up.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// When to end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
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
    source: Source,
    writer: W,
    closed: impl Future<Output = ()>,
    format: Format,
    bounds: Bounds,
) -> Result<End, OutputError>
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
        () = &mut closed => return Ok(End::Closed),
        () = time_up => None,
        fed = feed(source, items) => Some(fed),
    };
    let Some(fed) = fed else {
        return match timeout(DRAIN_WITHIN, written).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Ok(End::Bound),
        };
    };
    let end = tokio::select! {
        end = written => end?,
        () = closed => End::Closed,
    };
    // A reader that has all it wants is not told of how the source ended.
    if end == End::Source {
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

async fn feed(mut source: Source, items: mpsc::Sender<Item>) -> Result<(), ClientError> {
    while let Some(item) = source.next().await {
        if items.send(item?).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Starts the writing thread; its end is the future's.
fn start_writer<W>(
    queue: mpsc::Receiver<Item>,
    writer: W,
    format: Format,
    limit: Option<NonZeroU64>,
) -> Result<impl Future<Output = Result<End, OutputError>>, OutputError>
where
    W: Write + Send + 'static,
{
    let (sender, written) = oneshot::channel();
    let write = move || {
        let end = match write_all(queue, writer, format, limit) {
            Err(WriteError::Io(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(End::Closed),
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
mod tests {
    use std::sync::Arc;

    use std::io::{PipeReader, PipeWriter, Read, pipe};

    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::unix::pipe::Receiver;

    use super::*;
    use crate::watch::client::{connect, tests::answering};
    use crate::watch::filter::Filter;
    use crate::watch::human;
    use crate::watch::kind::Kind;
    use crate::watch::record::Record;
    use crate::watch::samples;

    const HUMAN: Format = Format::Human(Screen {
        columns: || 80,
        colour: false,
        header: false,
    });
    const FOREVER: Bounds = Bounds {
        records: None,
        time: None,
    };
    /// How long a test waits for what must happen.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn kinds(output: &str) -> Vec<String> {
        let kind = |line| serde_json::from_str::<Record>(line).map(|it| Kind::of(&it.event).name());
        output
            .lines()
            .map(|line| kind(line).unwrap().to_owned())
            .collect()
    }

    /// A source that gives `records` and ends.
    fn records(records: impl IntoIterator<Item = Record>) -> Source {
        let (sender, receiver) = mpsc::channel(16);
        for record in records {
            sender.try_send(Arc::new(record)).unwrap();
        }
        Source::Alone(receiver)
    }

    /// A source that gives nothing, as long as the sender lives.
    fn quiet() -> (mpsc::Sender<Arc<Record>>, Source) {
        let (sender, receiver) = mpsc::channel(16);
        (sender, Source::Alone(receiver))
    }

    async fn output(
        source: Source,
        format: Format,
        bounds: Bounds,
    ) -> (Result<End, OutputError>, String) {
        let (mut reader, writer) = pipe().unwrap();
        let end = timeout(PATIENCE, run(source, writer, pending(), format, bounds))
            .await
            .unwrap();
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        (end, output)
    }

    async fn server(lines: &str) -> Source {
        let (_dir, socket) = answering(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{lines}",
            lines.len()
        ));
        Source::Server(connect(&socket, &Filter::default()).await.unwrap())
    }

    #[tokio::test]
    async fn all_is_written_until_the_source_ends() {
        let source = records([samples::unshare(), samples::oom(), samples::lost()]);
        let (end, output) = output(source, Format::Json, FOREVER).await;
        assert_eq!(end.unwrap(), End::Source);
        assert_eq!(kinds(&output), ["unshare", "oom", "lost"]);
    }

    #[tokio::test]
    async fn a_limit_does_not_count_losses() {
        for (limit, written) in [(1, 2), (2, 4), (3, 5)] {
            let bounds = Bounds {
                records: NonZeroU64::new(limit),
                time: None,
            };
            let all = [
                samples::lost(),
                samples::oom(),
                samples::lost(),
                samples::oom(),
                samples::oom(),
            ];
            let json = all
                .each_ref()
                .map(|it| serde_json::to_string(it).unwrap() + "\n")
                .concat();
            for source in [records(all), server(&json).await] {
                let (end, output) = output(source, Format::Json, bounds).await;
                assert_eq!(end.unwrap(), End::Bound);
                assert_eq!(output.lines().count(), written);
            }
        }
    }

    #[tokio::test]
    async fn a_limit_ends_a_source_that_goes_on() {
        let (sender, source) = quiet();
        sender.send(Arc::new(samples::oom())).await.unwrap();
        let bounds = Bounds {
            records: NonZeroU64::new(1),
            time: None,
        };
        let (end, output) = output(source, HUMAN, bounds).await;
        assert_eq!(end.unwrap(), End::Bound);
        assert_eq!(output, human::line(&samples::oom(), 80, false) + "\n");
        drop(sender);
    }

    #[tokio::test]
    async fn a_line_is_out_before_the_next_comes() {
        let (sender, source) = quiet();
        let (reader, writer) = pipe().unwrap();
        let format = Format::Human(Screen {
            columns: || 80,
            colour: true,
            header: true,
        });
        let running = tokio::spawn(run(source, writer, pending(), format, FOREVER));
        let mut lines = BufReader::new(Receiver::from_owned_fd(reader.into()).unwrap()).lines();
        for expected in [
            human::header(80, true),
            human::line(&samples::oom(), 80, true),
        ] {
            let line = timeout(PATIENCE, lines.next_line()).await.unwrap();
            assert_eq!(line.unwrap(), Some(expected));
            sender.send(Arc::new(samples::oom())).await.unwrap();
        }
        drop(sender);
        assert_eq!(
            timeout(PATIENCE, running).await.unwrap().unwrap().unwrap(),
            End::Source
        );
    }

    #[tokio::test]
    async fn time_ends_a_quiet_source() {
        let (sender, source) = quiet();
        sender.send(Arc::new(samples::oom())).await.unwrap();
        let bounds = Bounds {
            records: None,
            time: Some(Duration::from_millis(50)),
        };
        let (end, output) = output(source, Format::Json, bounds).await;
        assert_eq!(end.unwrap(), End::Bound);
        assert_eq!(kinds(&output), ["oom"]);
    }

    /// A pipe that is so full that its writer blocks.
    fn full_pipe() -> (PipeReader, PipeWriter) {
        use rustix::fs::{OFlags, fcntl_setfl};

        let (reader, mut writer) = pipe().unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        while writer.write(&[b'x'; 1024]).is_ok() {}
        fcntl_setfl(&writer, OFlags::empty()).unwrap();
        (reader, writer)
    }

    #[tokio::test]
    async fn time_ends_although_nobody_reads() {
        let (_reader, writer) = full_pipe();
        let (sender, source) = quiet();
        sender.send(Arc::new(samples::oom())).await.unwrap();
        let bounds = Bounds {
            records: None,
            time: Some(Duration::from_millis(50)),
        };
        let running = run(source, writer, pending(), Format::Json, bounds);
        assert_eq!(
            timeout(PATIENCE, running).await.unwrap().unwrap(),
            End::Bound
        );
    }

    #[tokio::test]
    async fn a_closed_pipe_is_a_good_end() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let source = records([samples::oom()]);
        let end = run(source, writer, pending(), HUMAN, FOREVER)
            .await
            .unwrap();
        assert_eq!(end, End::Closed);
    }

    #[tokio::test]
    async fn a_pipe_closed_in_silence_is_a_good_end() {
        let (_sender, source) = quiet();
        let (reader, writer) = pipe().unwrap();
        let closed = closed(writer.try_clone().unwrap().into()).unwrap();
        let running = tokio::spawn(run(source, writer, closed, HUMAN, FOREVER));
        drop(reader);
        assert_eq!(
            timeout(PATIENCE, running).await.unwrap().unwrap().unwrap(),
            End::Closed
        );
    }

    #[tokio::test]
    async fn a_full_pipe_may_be_closed() {
        let (_sender, source) = quiet();
        let (reader, writer) = full_pipe();
        let closed = closed(writer.try_clone().unwrap().into()).unwrap();
        let running = tokio::spawn(run(source, writer, closed, HUMAN, FOREVER));
        drop(reader);
        assert_eq!(
            timeout(PATIENCE, running).await.unwrap().unwrap().unwrap(),
            End::Closed
        );
    }

    #[tokio::test]
    async fn another_write_error_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, source) = quiet();
        sender.send(Arc::new(samples::oom())).await.unwrap();
        let running = run(source, Full, pending(), HUMAN, FOREVER);
        let error = timeout(PATIENCE, running).await.unwrap().unwrap_err();
        assert!(matches!(error, OutputError::Write(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_source_that_breaks_is_told_after_what_it_gave() {
        let line = serde_json::to_string(&samples::oom()).unwrap();
        let (end, output) =
            output(server(&format!("{line}\n{{")).await, Format::Json, FOREVER).await;
        assert_eq!(kinds(&output), ["oom"]);
        assert!(
            matches!(end, Err(OutputError::Source(ClientError::Cut))),
            "{end:?}"
        );
    }
}
