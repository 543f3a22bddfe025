//! Splits the chunks of a connection into whole lines.

use hyper::body::Bytes;
use memchr::{memchr, memrchr};
use thiserror::Error;

/// The longest line that the client accepts, in bytes.
pub(crate) const LINE_MAX: usize = 1 << 20;

/// A line is longer than [`LINE_MAX`], which no event reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a line has more than {LINE_MAX} bytes")]
pub struct LongLine;

/// Splits chunks into lines. A line may begin in one chunk and end in a later one.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The beginning of a line whose end has not arrived.
    partial: Vec<u8>,
    /// The rest of the last chunk.
    chunk: Bytes,
}

impl Lines {
    /// Takes the next chunk. The caller has called [`Self::next`] until it returned `None`.
    pub(crate) fn add(&mut self, chunk: Bytes) {
        self.chunk = chunk;
    }

    /// Whether every byte so far was part of a returned line.
    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.chunk.is_empty()
    }

    /// All whole lines that have arrived, with their line ends; `None` when another chunk is needed.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, LongLine> {
        if self.partial.is_empty()
            && let Some(last) = memrchr(b'\n', &self.chunk)
        {
            return Ok(Some(self.chunk.split_to(last + 1)));
        }
        let end = memchr(b'\n', &self.chunk);
        if self.partial.len() + end.unwrap_or(self.chunk.len()) > LINE_MAX {
            return Err(LongLine);
        }
        let part = self
            .chunk
            .split_to(end.map_or(self.chunk.len(), |end| end + 1));
        self.partial.extend_from_slice(&part);
        Ok(end.map(|_| std::mem::take(&mut self.partial).into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What [`Lines`] makes of `chunks`.
    fn split(chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, LongLine> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for chunk in chunks {
            lines.add(Bytes::copy_from_slice(chunk));
            while let Some(lines) = lines.next()? {
                let lines = lines.strip_suffix(b"\n").unwrap();
                found.extend(lines.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
            }
        }
        Ok(found)
    }

    #[test]
    fn the_longest_line_is_a_mebibyte() {
        let longest = vec![b'x'; LINE_MAX];
        assert_eq!(split(&[&longest, b"\n"]).unwrap(), [longest.as_slice()]);
        let (start, end) = longest.split_at(LINE_MAX / 2);
        assert_eq!(split(&[start, end, b"\n"]).unwrap(), [longest.as_slice()]);
        assert!(matches!(split(&[&longest, b"x"]), Err(LongLine)));
        assert!(matches!(split(&[&longest, b"x\n"]), Err(LongLine)));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_chunks(
            text in prop::collection::vec(prop::sample::select(b"ab\n".to_vec()), 0..60),
            size in 1..20_usize,
        ) {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            let mut whole: Vec<_> = text.split(|byte| *byte == b'\n').collect();
            whole.pop();
            prop_assert_eq!(split(&chunks).unwrap(), whole);
        }
    }
}
