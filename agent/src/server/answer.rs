//! Answers of many chunks: each is made while its client reads it, and only for so long.

use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;

/// What a client may take to read an answer.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Why an answer is cut short.
#[derive(Debug, thiserror::Error)]
#[error("the answer was not read within {} s", READ_WITHIN.as_secs())]
struct NotRead;

/// A body of these chunks. `permit` is held until the client has read all but the last, has gone,
/// or has taken too long.
pub fn body(
    chunks: impl Iterator<Item = String> + Send + 'static,
    permit: OwnedSemaphorePermit,
) -> Body {
    let (to_client, queue) = mpsc::channel(1);
    let (done, is_done) = oneshot::channel();
    // The body itself is not asked for anything while its client does not read.
    tokio::spawn(async move {
        let _permit = permit;
        let send_all = async {
            for chunk in chunks {
                if to_client.send(Bytes::from(chunk)).await.is_err() {
                    return;
                }
            }
            // Where the client has gone, nobody waits for it.
            let _ = done.send(());
        };
        if timeout(READ_WITHIN, send_all).await.is_err() {
            tracing::debug!("{NotRead}");
        }
    });
    // What is cut short must not look whole.
    let end = stream::once(is_done).filter_map(async |end| end.is_err().then_some(Err(NotRead)));
    Body::from_stream(ReceiverStream::new(queue).map(Ok).chain(end))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    fn chunks() -> impl Iterator<Item = String> + Send + 'static {
        (0..3).map(|chunk| chunk.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_holds_up_nobody() {
        let permits = Arc::new(Semaphore::new(1));
        let permit = || Arc::clone(&permits).acquire_owned();
        let unread = body(chunks(), permit().await.unwrap());
        assert_eq!(permits.available_permits(), 0);
        // The next answer waits until the deadline of the first.
        let read = body(chunks(), permit().await.unwrap());
        assert!(unread.collect().await.is_err(), "it is cut short");
        assert_eq!(read.collect().await.unwrap().to_bytes(), "012");
        // Who goes before the end gives way at once.
        drop(body(chunks(), permit().await.unwrap()));
        let _permit = permit().await.unwrap();
    }
}
