//! The text of `/metrics`, which all clients that wait for the same scrape share.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use agent_model::lock::lock;
use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// The bytes of texts that are held for their clients, and the number of the newest texts that are held whatever their
/// size: the newest one, and the one that clients read while the next one is made.
const HELD_BYTES: usize = 64 << 20;
const HELD_TEXTS: usize = 2;

/// The reason why an answer is cut short.
#[derive(Debug, thiserror::Error)]
#[error("the answer was read so slowly that newer ones needed its memory")]
pub(super) struct TooSlow;

/// The text of one scrape.
#[derive(Debug)]
pub(super) struct Text {
    /// The chunks; `None` after newer texts needed the memory.
    chunks: Mutex<Option<Vec<Bytes>>>,
    bytes: usize,
}

impl Text {
    pub(super) fn new(chunks: impl Iterator<Item = String>) -> Self {
        let chunks: Vec<_> = chunks.map(Bytes::from).collect();
        Self {
            bytes: chunks.iter().map(Bytes::len).sum(),
            chunks: Mutex::new(Some(chunks)),
        }
    }

    /// Returns a chunk; `None` after the last one.
    fn chunk(&self, index: usize) -> Option<Result<Bytes, TooSlow>> {
        match &*lock(&self.chunks) {
            Some(chunks) => chunks.get(index).cloned().map(Ok),
            None => Some(Err(TooSlow)),
        }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // No other part of the agent needs as much memory before the next scrape.
        *lock(&self.chunks) = None;
        agent_sys::trim_heap();
    }
}

/// The texts that clients still read.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<VecDeque<Weak<Text>>>);

impl Held {
    /// Adds a new text. If all texts together are too large, frees the memory of the oldest ones, whose clients are the
    /// slowest.
    pub(super) fn push(&self, text: &Arc<Text>) {
        let mut held = lock(&self.0);
        held.retain(|text| text.strong_count() > 0);
        held.push_back(Arc::downgrade(text));
        let mut bytes = 0;
        for (index, text) in held.iter().rev().enumerate() {
            let Some(text) = text.upgrade() else { continue };
            bytes += text.bytes;
            if index >= HELD_TEXTS && bytes > HELD_BYTES {
                *lock(&text.chunks) = None;
                bytes -= text.bytes;
            }
        }
    }
}

/// The body of an answer, from a text.
pub(super) struct Answer {
    text: Arc<Text>,
    next: usize,
    left: usize,
}

impl From<Arc<Text>> for Answer {
    fn from(text: Arc<Text>) -> Self {
        Self {
            left: text.bytes,
            text,
            next: 0,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = TooSlow;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TooSlow>>> {
        let chunk = self.text.chunk(self.next);
        if let Some(Ok(chunk)) = &chunk {
            self.next += 1;
            self.left -= chunk.len();
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    /// The exact size becomes the header `Content-Length`, so that a client notices an answer that is cut short.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn text(bytes: usize) -> Arc<Text> {
        Arc::new(Text::new([String::new(), "x".repeat(bytes)].into_iter()))
    }

    #[tokio::test]
    async fn a_text_is_read_by_many() {
        let text = Arc::new(Text::new(["ab", "c"].into_iter().map(str::to_owned)));
        for _ in 0..2 {
            let answer = Answer::from(Arc::clone(&text));
            assert_eq!(answer.size_hint().exact(), Some(3));
            assert_eq!(answer.collect().await.unwrap().to_bytes(), "abc");
        }
    }

    #[tokio::test]
    async fn of_too_many_texts_the_oldest_is_cut_short() {
        let held = Held::default();
        let texts: Vec<_> = (0..5).map(|_| text(HELD_BYTES / 3)).collect();
        texts.iter().for_each(|text| held.push(text));
        let mut whole = Vec::new();
        for text in texts {
            whole.push(Answer::from(text).collect().await.is_ok());
        }
        assert_eq!(whole, [false, false, true, true, true]);
    }

    #[tokio::test]
    async fn the_newest_two_are_held_whatever_their_size() {
        let held = Held::default();
        let texts: Vec<_> = (0..3).map(|_| text(HELD_BYTES + 1)).collect();
        texts.iter().for_each(|text| held.push(text));
        let whole = texts.iter().map(|text| lock(&text.chunks).is_some());
        assert_eq!(whole.collect::<Vec<_>>(), [false, true, true]);
    }
}
