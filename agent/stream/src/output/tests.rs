//! How events look.

mod lines;

use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

use super::*;
use crate::client::connect;
use crate::client::tests::answering;
use crate::filter::EventFilter;
use crate::kind::EventKind;
use crate::stream_event::StreamEvent;
use crate::{human, samples};

const HUMAN: OutputFormat = OutputFormat::Human(HumanScreen {
    columns: || 80,
    colour: false,
    header: false,
});
const FOREVER: StopAfter = StopAfter {
    events: None,
    time: None,
};
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn kinds(output: &str) -> Vec<String> {
    let kind = |line| {
        serde_json::from_str::<StreamEvent>(line).map(|it| EventKind::of(&it.details).name())
    };
    output
        .lines()
        .map(|line| kind(line).unwrap().to_owned())
        .collect()
}

/// A source that gives `events` and ends.
fn events(events: impl IntoIterator<Item = StreamEvent>) -> EventSource {
    let (sender, receiver) = mpsc::channel(16);
    for event in events {
        sender.try_send(Arc::new(event)).unwrap();
    }
    EventSource::Alone(receiver)
}

/// A source that gives nothing, as long as the sender lives.
fn quiet() -> (mpsc::Sender<Arc<StreamEvent>>, EventSource) {
    let (sender, receiver) = mpsc::channel(16);
    (sender, EventSource::Alone(receiver))
}

async fn output(
    source: EventSource,
    format: OutputFormat,
    bounds: StopAfter,
) -> (Result<OutputEnd, OutputError>, String) {
    let (mut reader, writer) = pipe().unwrap();
    let end = timeout(PATIENCE, run(source, writer, pending(), format, bounds))
        .await
        .unwrap();
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    (end, output)
}

async fn server(lines: &str) -> EventSource {
    let (_dir, socket) = answering(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{lines}",
        lines.len()
    ));
    EventSource::Server(connect(&socket, &EventFilter::default()).await.unwrap())
}

#[tokio::test]
async fn all_is_written_until_the_source_ends() {
    let source = events([samples::unshare(), samples::oom(), samples::lost()]);
    let (end, output) = output(source, OutputFormat::Json, FOREVER).await;
    assert_eq!(end.unwrap(), OutputEnd::Source);
    assert_eq!(kinds(&output), ["unshare", "oom", "lost"]);
}

#[tokio::test]
async fn a_limit_does_not_count_losses() {
    for (limit, written) in [(1, 2), (2, 4), (3, 5)] {
        let bounds = StopAfter {
            events: NonZeroU64::new(limit),
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
        for source in [events(all), server(&json).await] {
            let (end, output) = output(source, OutputFormat::Json, bounds).await;
            assert_eq!(end.unwrap(), OutputEnd::Bound);
            assert_eq!(output.lines().count(), written);
        }
    }
}

#[tokio::test]
async fn a_limit_ends_a_source_that_goes_on() {
    let (sender, source) = quiet();
    sender.send(Arc::new(samples::oom())).await.unwrap();
    let bounds = StopAfter {
        events: NonZeroU64::new(1),
        time: None,
    };
    let (end, output) = output(source, HUMAN, bounds).await;
    assert_eq!(end.unwrap(), OutputEnd::Bound);
    assert_eq!(output, human::line(&samples::oom(), 80, false) + "\n");
    drop(sender);
}

#[tokio::test]
async fn a_line_is_out_before_the_next_comes() {
    let (sender, source) = quiet();
    let (reader, writer) = pipe().unwrap();
    let format = OutputFormat::Human(HumanScreen {
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
        OutputEnd::Source
    );
}

#[tokio::test]
async fn time_ends_a_quiet_source() {
    let (sender, source) = quiet();
    sender.send(Arc::new(samples::oom())).await.unwrap();
    let bounds = StopAfter {
        events: None,
        time: Some(Duration::from_millis(50)),
    };
    let (end, output) = output(source, OutputFormat::Json, bounds).await;
    assert_eq!(end.unwrap(), OutputEnd::Bound);
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
    let bounds = StopAfter {
        events: None,
        time: Some(Duration::from_millis(50)),
    };
    let running = run(source, writer, pending(), OutputFormat::Json, bounds);
    assert_eq!(
        timeout(PATIENCE, running).await.unwrap().unwrap(),
        OutputEnd::Bound
    );
}

#[tokio::test]
async fn a_closed_pipe_is_a_good_end() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let source = events([samples::oom()]);
    let end = run(source, writer, pending(), HUMAN, FOREVER)
        .await
        .unwrap();
    assert_eq!(end, OutputEnd::Closed);
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
        OutputEnd::Closed
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
        OutputEnd::Closed
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
    let (end, output) = output(
        server(&format!("{line}\n{{")).await,
        OutputFormat::Json,
        FOREVER,
    )
    .await;
    assert_eq!(kinds(&output), ["oom"]);
    assert!(
        matches!(end, Err(OutputError::Source(ClientError::Cut))),
        "{end:?}"
    );
}
