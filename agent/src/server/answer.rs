//! The text of `/metrics`, which its readers share.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use agent_model::lock::lock;
use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes of texts that may be held for their readers, and texts that may be held whatever their size: the newest, and one that
/// is read while the next is made.
const HELD_BYTES: usize = 64 << 20;
const HELD_TEXTS: usize = 2;

/// Why an answer is cut short.
#[derive(Debug, thiserror::Error)]
#[error("the answer was read so slowly that newer ones needed its memory")]
pub(super) struct TooSlow;

/// The text of one scrape.
#[derive(Debug)]
pub(super) struct Text {
    /// None: its memory was needed.
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

    /// None behind the last chunk.
    fn chunk(&self, index: usize) -> Option<Result<Bytes, TooSlow>> {
        match &*lock(&self.chunks) {
            Some(chunks) => chunks.get(index).cloned().map(Ok),
            None => Some(Err(TooSlow)),
        }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // Until the next scrape nobody needs as much.
        *lock(&self.chunks) = None;
        agent_sys::trim_heap();
    }
}

/// The texts that somebody reads.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<VecDeque<Weak<Text>>>);

impl Held {
    /// Takes a new one. Where all of them are too large, the oldest lose their memory: who has not read one by the time of so
    /// many others is slow.
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

/// A text as the body of an answer.
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

    /// Told in the head, so that what is cut short does not look whole.
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
