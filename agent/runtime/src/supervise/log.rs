//! The log of a detached container: pieces of its two streams in the order in which they came. Each piece has docker's
//! header of eight bytes: the stream, three zeros, and the length in big-endian order. The bit `TIMED` of the stream says
//! that the piece begins with its time: nanoseconds since the epoch, eight bytes in big-endian order. Pieces of agents
//! that wrote no times have no such bit. A file begins with its number, by which a reader notices that files are missing.
//!
//! A log is bounded. A file that is full becomes `log.1`, the one before it `log.2`, and the oldest is removed
//! ([`Limits`](crate::order::LogLimits)). The log is on a disk, in a directory of the container's own (`log/place.rs`).
//! So the output of a container takes up neither memory nor the space for another container's state.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

mod lines;
pub mod place;
mod reader;
mod writer;

pub use lines::{Lines, LinesWanted};
pub use reader::Reader;
pub use writer::Writer;

/// The name of the file that is being written.
const CURRENT: &str = "log";

const HEADER_BYTES: usize = 8;

/// The bit of a header's first byte that says that the piece begins with its time.
const TIMED: u8 = 4;

const TIME_BYTES: usize = size_of::<u64>();

/// An upper bound on the bytes of a piece, which no written piece reaches.
const LONGEST_PIECE: usize = 1 << 20;

/// The stream that the container wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Not a stream: the piece is the number of the file, eight bytes in big-endian order.
    Number = 0,
    /// Standard output.
    Output = 1,
    /// Standard error.
    Errors = 2,
}

/// Bytes that were read at once from one of the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The stream.
    pub stream: Stream,
    /// When the bytes were read. None where an older agent wrote the log.
    pub time: Option<SystemTime>,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl Piece<'_> {
    fn to_bytes(self) -> Vec<u8> {
        let time = self.time.map(|time| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_nanos())
                .unwrap_or(u64::MAX)
                .to_be_bytes()
        });
        let time = time.as_slice().as_flattened();
        let timed = if time.is_empty() { 0 } else { TIMED };
        let length = u32::try_from(time.len() + self.bytes.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + time.len() + self.bytes.len());
        bytes.extend([self.stream as u8 | timed, 0, 0, 0]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(time);
        bytes.extend(self.bytes);
        bytes
    }
}

/// Returns the first piece, and the bytes after it. Returns none where the piece is not complete.
fn first_piece(bytes: &[u8]) -> io::Result<Option<(Piece<'_>, &[u8])>> {
    let [stream, 0, 0, 0, a, b, c, d, rest @ ..] = bytes else {
        return match bytes.len() {
            ..HEADER_BYTES => Ok(None),
            _ => Err(malformed()),
        };
    };
    let is_timed = stream & TIMED != 0;
    let stream = match stream & !TIMED {
        0 if !is_timed => Stream::Number,
        1 => Stream::Output,
        2 => Stream::Errors,
        _ => return Err(malformed()),
    };
    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    if length > LONGEST_PIECE {
        return Err(malformed());
    }
    let Some((bytes, behind)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    let (time, bytes) = match bytes.split_first_chunk::<TIME_BYTES>() {
        Some((time, bytes)) if is_timed => (Some(u64::from_be_bytes(*time)), bytes),
        None if is_timed => return Err(malformed()),
        _ => (None, bytes),
    };
    // The sum cannot overflow: 2^64 nanoseconds are 584 years.
    let time = time.map(|time| UNIX_EPOCH + Duration::from_nanos(time));
    let piece = Piece {
        stream,
        time,
        bytes,
    };
    Ok(Some((piece, behind)))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a log of agent run")
}

/// Returns the name of a file: `log`, or `log.N` for the file that was full N files ago.
fn name(age: u32) -> String {
    match age {
        0 => CURRENT.to_owned(),
        age => format!("{CURRENT}.{age}"),
    }
}

/// Returns the device and inode numbers, which identify a file while it is open.
fn inode(file: &File) -> Option<(u64, u64)> {
    file.metadata().map(|found| (found.dev(), found.ino())).ok()
}

#[cfg(test)]
mod tests;
