//! What a detached container wrote: pieces of its two streams in the order in which they came, each behind a header of
//! eight bytes, as docker has it: which stream, three zeros, and the length, its highest byte first. In front of them is the
//! file's number, so that a reader sees where files are missing.
//!
//! A log is bounded: a file that is full becomes `log.1`, that before it `log.2`, and the oldest goes
//! ([`Limits`](crate::order::LogLimits)). It is on a disk, in a directory of the container's own (`log/place.rs`), so
//! that what a container writes takes neither memory nor room for another one's state.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

pub mod place;
mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

/// The file that is written.
const CURRENT: &str = "log";

const HEADER_BYTES: usize = 8;

/// More than any piece that is written.
const LONGEST_PIECE: usize = 1 << 20;

/// The stream that the container wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// No stream: the number of the file, eight bytes, the highest first.
    Number = 0,
    /// Standard output.
    Output = 1,
    /// Standard error.
    Errors = 2,
}

/// What was read at once from one of the streams.
struct Piece<'a> {
    stream: Stream,
    bytes: &'a [u8],
}

impl Piece<'_> {
    fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.bytes.len());
        bytes.extend([self.stream as u8, 0, 0, 0]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.bytes);
        bytes
    }
}

/// The first piece and what is behind it; `None` where it is not whole.
fn first_piece(bytes: &[u8]) -> io::Result<Option<(Piece<'_>, &[u8])>> {
    let [stream, 0, 0, 0, a, b, c, d, rest @ ..] = bytes else {
        return match bytes.len() {
            ..HEADER_BYTES => Ok(None),
            _ => Err(malformed()),
        };
    };
    let stream = match stream {
        0 => Stream::Number,
        1 => Stream::Output,
        2 => Stream::Errors,
        _ => return Err(malformed()),
    };
    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    if length > LONGEST_PIECE {
        return Err(malformed());
    }
    let split = rest.split_at_checked(length);
    Ok(split.map(|(bytes, behind)| (Piece { stream, bytes }, behind)))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no log of agent run")
}

/// What a file is called that was full so many files ago.
fn name(age: u32) -> String {
    match age {
        0 => CURRENT.to_owned(),
        age => format!("{CURRENT}.{age}"),
    }
}

/// The file's number, which no other has while it is open.
fn inode(file: &File) -> Option<(u64, u64)> {
    file.metadata().map(|found| (found.dev(), found.ino())).ok()
}

#[cfg(test)]
mod tests;
