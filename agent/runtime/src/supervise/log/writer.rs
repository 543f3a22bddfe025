//! Writes the log of a container.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::time::SystemTime;

use agent_host::regular::{self, Links};
use agent_model::text::NOTE;
use rustix::fs::{AtFlags, OFlags, renameat, unlinkat};
use rustix::io::Errno;

use super::{HEADER_BYTES, LONGEST_PIECE, Piece, Stream, TIME_BYTES, name};
use crate::order::LogLimits;

/// The name of the next file until it replaces the current one.
const NEXT: &str = "log.new";

/// The bytes of the number at the beginning of each file.
const NUMBER_BYTES: usize = HEADER_BYTES + size_of::<u64>();

/// Writes the output of a container to the files of its log.
#[derive(Debug)]
pub struct Writer {
    directory: OwnedFd,
    file: File,
    number: u64,
    size: u64,
    limits: LogLimits,
    /// The number of bytes that were lost since the last successful write.
    lost: usize,
}

impl Writer {
    /// Begins a log in this directory, which belongs to the container alone.
    ///
    /// # Errors
    /// The first file cannot be made.
    pub fn create(directory: OwnedFd, limits: LogLimits) -> io::Result<Self> {
        let (file, size) = create(&directory, 0)?;
        renameat(&directory, NEXT, &directory, name(0))?;
        Ok(Self {
            directory,
            file,
            number: 0,
            size,
            limits,
            lost: 0,
        })
    }

    /// Writes output of a stream. An error does not hold the container up. The bytes are lost, and the log says how
    /// many once there is room again.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let longest = usize::try_from(self.limits.file_bytes).unwrap_or(usize::MAX);
        let longest = longest.min(LONGEST_PIECE);
        let longest = longest.saturating_sub(NUMBER_BYTES + HEADER_BYTES + TIME_BYTES);
        for bytes in bytes.chunks(longest.max(1)) {
            if self
                .tell_lost()
                .and_then(|()| self.append(stream, bytes))
                .is_err()
            {
                self.lost += bytes.len();
            }
        }
    }

    fn tell_lost(&mut self) -> io::Result<()> {
        if self.lost > 0 {
            let told = format!(
                "\n{NOTE}{} bytes are missing here: there was no room for the log\n",
                self.lost
            );
            self.append(Stream::Errors, told.as_bytes())?;
            self.lost = 0;
        }
        Ok(())
    }

    /// Appends a whole piece, or nothing.
    fn append(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let time = Some(SystemTime::now());
        let piece = Piece {
            stream,
            time,
            bytes,
        };
        let piece = piece.to_bytes();
        let length = piece.len() as u64;
        if self.size + length > self.limits.file_bytes {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all_at(&piece, self.size) {
            // Part of the piece may have been written, and a reader would take the next piece for the rest.
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.size += length;
        Ok(())
    }

    /// Begins the next file. Where there is no room for it, the current file stays in place.
    fn rotate(&mut self) -> io::Result<()> {
        let number = self.number + 1;
        let (next, size) = create(&self.directory, number)?;
        for age in (1..self.limits.files).rev() {
            match renameat(&self.directory, name(age - 1), &self.directory, name(age)) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        renameat(&self.directory, NEXT, &self.directory, name(0))?;
        (self.file, self.number, self.size) = (next, number, size);
        Ok(())
    }
}

impl AsFd for Writer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Makes the next file with its number. Returns the file and its length.
fn create(directory: &OwnedFd, number: u64) -> io::Result<(File, u64)> {
    match unlinkat(directory, NEXT, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let access = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = regular::open_at(directory, NEXT, access, Links::Refused)?;
    let piece = Piece {
        stream: Stream::Number,
        time: None,
        bytes: &number.to_be_bytes(),
    };
    let piece = piece.to_bytes();
    file.write_all_at(&piece, 0)?;
    Ok((file, piece.len() as u64))
}
