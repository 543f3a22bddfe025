//! Serves `/v1/events`, the stream of events, as NDJSON.

use std::convert::Infallible;
use std::sync::Arc;

use agent_model::text;
use agent_stream::query;
use agent_stream::stream_event::StreamEvent;
use agent_stream::streams::EventStream;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use super::Server;
use super::accept::HangUp;
use super::patience::{LINES_WITHIN, Patience};

/// The bytes of lines that are sent at once, if as many wait.
const CHUNK: usize = 1 << 16;

/// The spare capacity for the last line of a chunk. Most lines are shorter.
const LINE: usize = 1 << 12;

/// Answers with the events from now on, one JSON object a line, until the client closes the stream or the server stops.
///
/// A stream without events has no deadline. The server closes it if the client reads none of the waiting lines for 60
/// seconds.
pub(super) async fn events(
    State(server): State<Arc<Server>>,
    Extension(patience): Extension<Patience>,
    Extension(hang_up): Extension<HangUp>,
    RawQuery(query): RawQuery,
) -> Response {
    let filter = match query::parse(&query.unwrap_or_default()) {
        Ok(filter) => filter,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error),
    };
    let opening = Arc::clone(&server);
    let opened = tokio::task::spawn_blocking(move || match opening.pipeline.get() {
        Some(pipeline) => pipeline.open(filter),
        // The pipeline takes its filter into account when tracing starts.
        None => opening.streams.open(filter),
    });
    let Ok(opened) = opened.await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match opened {
        Ok(stream) => {
            let lines = lines(stream, server.stopping.subscribe(), hang_up, patience);
            let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
            (kind, Body::from_stream(lines)).into_response()
        }
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error),
    }
}

fn refuse(status: StatusCode, error: &(dyn std::error::Error + 'static)) -> Response {
    (status, text::error_line(error) + "\n").into_response()
}

fn lines(
    stream: EventStream,
    stopping: watch::Receiver<bool>,
    hang_up: HangUp,
    patience: Patience,
) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    futures_util::stream::unfold(
        (stream, stopping, hang_up, patience),
        |(mut stream, mut stopping, mut hang_up, patience)| async move {
            // hyper asks for the next chunk once its buffer has room. No deadline holds until there are events.
            patience.lift();
            let first = tokio::select! {
                record = stream.next() => record,
                _ = stopping.wait_for(|stop| *stop) => return None,
                () = hang_up.wait() => return None,
            };
            // A vector that grows step by step would be copied to new memory, which the kernel clears, at each step.
            let mut lines = Vec::with_capacity(CHUNK + LINE);
            push_line(&mut lines, &first);
            while lines.len() < CHUNK
                && let Some(record) = stream.next_waiting()
            {
                push_line(&mut lines, &record);
            }
            patience.allow(LINES_WITHIN);
            Some((Ok(lines.into()), (stream, stopping, hang_up, patience)))
        },
    )
}

fn push_line(lines: &mut Vec<u8>, record: &StreamEvent) {
    // An event has only strings and numbers, so its serialization cannot fail.
    let _ = serde_json::to_writer(&mut *lines, record);
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use agent_metrics::traffic::Reason;
    use agent_stream::filter::EventFilter;
    use agent_stream::samples;
    use agent_stream::streams::EventStreams;
    use futures_util::StreamExt as _;
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_may_be_idle_but_takes_what_waits() {
        let streams = EventStreams::default();
        let (_stopping, stopped) = watch::channel(false);
        let (_hung_up, hang_up) = watch::channel(false);
        let patience = Patience::new();
        let stream = streams.open(EventFilter::default()).unwrap();
        let mut lines = pin!(lines(
            stream,
            stopped,
            HangUp::new(hang_up),
            patience.clone()
        ));
        tokio::select! {
            reason = patience.end() => panic!("an idle stream ended: {reason:?}"),
            idle = timeout(Duration::from_secs(3600), lines.next()) => assert!(idle.is_err()),
        }
        for _ in 0..3 {
            streams.publish(samples::unshare());
            lines.next().await.unwrap().unwrap();
        }
        let begun = Instant::now();
        assert_eq!(patience.end().await, Reason::Deadline);
        assert_eq!(begun.elapsed(), LINES_WITHIN);
    }
}
