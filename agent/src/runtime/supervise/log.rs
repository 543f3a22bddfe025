//! What a detached container wrote: pieces of its two streams in the order in which they came, each behind a header of
//! eight bytes, as docker has it: which stream, three zeros, and the length, its highest byte first.
//!
//! A log is bounded, since it is kept in memory: the file that is full becomes `log.1`, and the one of that name before
//! it is gone.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const CURRENT: &str = "log";
const BEFORE: &str = "log.1";

/// Of each of the two files.
pub const FILE_BYTES: u64 = 16 << 20;

const HEADER_BYTES: usize = 8;

/// More than any piece that is written.
const LONGEST_PIECE: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    Output = 1,
    Errors = 2,
}

/// Writes the log of a container.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl AsFd for Writer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Writer {
    /// Begins the log of the container whose state is in `directory`.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            directory: directory.to_owned(),
            file: File::create(directory.join(CURRENT))?,
            size: 0,
            limit: FILE_BYTES,
        })
    }

    /// # Errors
    /// Where it cannot be written.
    pub fn write(&mut self, stream: Stream, piece: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + piece.len());
        bytes.extend([stream as u8, 0, 0, 0]);
        bytes.extend(u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(piece);
        if self.size + bytes.len() as u64 > self.limit {
            fs::rename(self.directory.join(CURRENT), self.directory.join(BEFORE))?;
            self.file = File::create(self.directory.join(CURRENT))?;
            self.size = 0;
        }
        self.size += bytes.len() as u64;
        self.file.write_all(&bytes)
    }
}

/// Reads the log of a container, which may still be written.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    /// What is read now, and what comes after.
    files: Vec<File>,
    /// What was read of the current one and is no whole piece yet.
    rest: Vec<u8>,
}

impl Reader {
    /// Begins with the oldest that there is.
    ///
    /// # Errors
    /// Where it cannot be opened: no log is written of a container that is not detached.
    pub fn open(directory: &Path) -> io::Result<Self> {
        // The second becomes the first meanwhile, at worst: then it is read twice, and never missed.
        let current = File::open(directory.join(CURRENT))?;
        let mut files = vec![current];
        if let Ok(before) = File::open(directory.join(BEFORE))
            && inode(&before) != inode(&files[0])
        {
            files.insert(0, before);
        }
        Ok(Self {
            directory: directory.to_owned(),
            files,
            rest: Vec::new(),
        })
    }

    /// The pieces that came since the last call, to `take`, until there are no more for now.
    ///
    /// # Errors
    /// Those of reading and of `take`; a header that no writer wrote.
    pub fn read(
        &mut self,
        mut take: impl FnMut(Stream, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            self.read_file(&mut take)?;
            if self.files.len() > 1 {
                self.files.remove(0);
                self.rest.clear();
                continue;
            }
            // It may have been renamed, and written to until then.
            let Ok(next) = File::open(self.directory.join(CURRENT)) else {
                return Ok(());
            };
            if self
                .files
                .first()
                .is_some_and(|file| inode(file) == inode(&next))
            {
                return Ok(());
            }
            self.files.push(next);
        }
    }

    fn read_file(
        &mut self,
        take: &mut impl FnMut(Stream, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(mut file) = self.files.first() else {
            return Ok(());
        };
        let mut buffer = [0; 64 << 10];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            self.rest
                .extend_from_slice(buffer.get(..read).unwrap_or(&buffer));
            let mut bytes = self.rest.as_slice();
            while let Some((piece, behind)) = first_piece(bytes)? {
                take(piece.stream, piece.bytes)?;
                bytes = behind;
            }
            let done = self.rest.len() - bytes.len();
            self.rest.drain(..done);
        }
    }
}

/// What was read at once from one of the streams.
struct Piece<'a> {
    stream: Stream,
    bytes: &'a [u8],
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

fn inode(file: &File) -> Option<u64> {
    file.metadata().map(|found| found.ino()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a reader gives.
    fn read(reader: &mut Reader) -> Vec<(Stream, Vec<u8>)> {
        let mut all = Vec::new();
        reader
            .read(|stream, piece| {
                all.push((stream, piece.to_vec()));
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn streams_stay_apart_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(directory.path()).unwrap();
        let mut reader = Reader::open(directory.path()).unwrap();
        assert_eq!(read(&mut reader), []);
        writer.write(Stream::Output, b"a\0\xff").unwrap();
        writer.write(Stream::Errors, b"").unwrap();
        let wanted = [
            (Stream::Output, b"a\0\xff".to_vec()),
            (Stream::Errors, Vec::new()),
        ];
        assert_eq!(read(&mut reader), wanted);
        writer.write(Stream::Errors, &[7; 100_000]).unwrap();
        assert_eq!(read(&mut reader), [(Stream::Errors, vec![7; 100_000])]);
        assert_eq!(read(&mut reader), []);
    }

    #[test]
    fn a_log_is_bounded_and_followed() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(directory.path()).unwrap();
        writer.limit = 1000;
        let mut follower = Reader::open(directory.path()).unwrap();
        let mut followed = Vec::new();
        let pieces: Vec<_> = (0..100u8).map(|n| (Stream::Output, vec![n; 92])).collect();
        for (stream, piece) in &pieces {
            writer.write(*stream, piece).unwrap();
            followed.extend(read(&mut follower));
        }
        assert_eq!(followed, pieces);
        let late = read(&mut Reader::open(directory.path()).unwrap());
        assert_eq!(late, pieces[80..]);
    }

    #[test]
    fn what_is_cut_off_is_left_out_and_garbage_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(CURRENT);
        fs::write(&path, b"\x01\0\0\0\0\0\0\x02ab\x01\0\0\0\0\0").unwrap();
        let mut reader = Reader::open(directory.path()).unwrap();
        assert_eq!(read(&mut reader), [(Stream::Output, b"ab".to_vec())]);
        for garbage in [
            &b"\x03\0\0\0\0\0\0\0"[..],
            b"abcdefgh",
            b"\x01\0\0\0\xff\0\0\0",
        ] {
            fs::write(&path, garbage).unwrap();
            let mut reader = Reader::open(directory.path()).unwrap();
            assert!(reader.read(|_, _| Ok(())).is_err(), "{garbage:?}");
        }
    }
}
