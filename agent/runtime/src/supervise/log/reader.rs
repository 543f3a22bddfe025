//! Reads the log of a container, also while it is written.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use agent_host::regular::{self, Links};
use rustix::fs::{Dir, FlockOperation, OFlags, flock};

use super::{Piece, Stream, first_piece, inode, malformed, name, place};

/// How often the files are opened again where they are renamed meanwhile.
const ATTEMPTS: usize = 8;

/// The most bytes that are read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Reads what a container wrote, in order.
#[derive(Debug)]
pub struct Reader {
    directory: OwnedFd,
    /// The file that is being read, and the newer ones that were found, the oldest first.
    files: VecDeque<File>,
    pieces: Pieces,
    /// The number of the file that is being read.
    number: Option<u64>,
    missed: bool,
}

impl Reader {
    /// Begins with the oldest file.
    ///
    /// # Errors
    /// The log cannot be opened. Only a detached container has one.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let directory = place::open(directory)?;
        // With this lock, the log is not removed before it is read, even when the container is removed.
        flock(&directory, FlockOperation::NonBlockingLockShared)?;
        let files = files(&directory)?;
        if files.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self {
            directory,
            files,
            pieces: Pieces::default(),
            number: None,
            missed: false,
        })
    }

    /// Passes the pieces that came since the last call to `take`, until there are no more for now.
    ///
    /// # Errors
    /// The files cannot be read, a header is not one that the writer writes, or `take` failed.
    pub fn read(&mut self, mut take: impl FnMut(Piece<'_>) -> io::Result<()>) -> io::Result<()> {
        loop {
            // The writer may write to a file until it renames the file. So newer files are opened before the end of
            // this file is read.
            if self.files.len() == 1 {
                self.look_for_next()?;
            }
            self.read_file(&mut take)?;
            if self.files.len() <= 1 {
                return Ok(());
            }
            self.files.pop_front();
            self.pieces = Pieces::default();
        }
    }

    /// Tells whether files were removed before they were read, since the last call.
    pub fn has_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// Opens the files that are newer than the one that is being read.
    fn look_for_next(&mut self) -> io::Result<()> {
        let Some(read) = self.files.front().map(inode) else {
            return Ok(());
        };
        let current = open(&self.directory, &name(0)).ok();
        if current
            .as_ref()
            .is_none_or(|current| inode(current) == read)
        {
            return Ok(());
        }
        let mut all = files(&self.directory)?;
        if let Some(place) = all.iter().position(|file| inode(file) == read) {
            drop(all.drain(..=place));
        }
        self.files.extend(all);
        Ok(())
    }

    fn read_file(&mut self, take: &mut impl FnMut(Piece<'_>) -> io::Result<()>) -> io::Result<()> {
        let Some(mut file) = self.files.front() else {
            return Ok(());
        };
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            self.pieces.split(&buffer[..read], |piece| {
                if piece.stream != Stream::Number {
                    return take(piece);
                }
                let number = piece.bytes.try_into().map(u64::from_be_bytes);
                let number = number.map_err(|_| malformed())?;
                let before = self.number.replace(number);
                self.missed |= before.is_some_and(|before| before.saturating_add(1) < number);
                Ok(())
            })?;
        }
    }

    /// Passes the pieces of all files that were found to `take`, and leaves them to be read.
    ///
    /// # Errors
    /// As of [`Reader::read`].
    pub(super) fn look_ahead(&self, mut take: impl FnMut(Piece<'_>)) -> io::Result<()> {
        let mut buffer = [0; BUFFER_BYTES];
        for file in &self.files {
            let (mut pieces, mut offset) = (Pieces::default(), 0);
            loop {
                let read = file.read_at(&mut buffer, offset)?;
                if read == 0 {
                    break;
                }
                offset += read as u64;
                pieces.split(&buffer[..read], |piece| {
                    take(piece);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

/// Splits the bytes of a file into pieces.
#[derive(Debug, Default)]
struct Pieces {
    /// Bytes that were read, and are not a complete piece yet.
    rest: Vec<u8>,
}

impl Pieces {
    fn split(
        &mut self,
        read: &[u8],
        mut take: impl FnMut(Piece<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.rest.extend_from_slice(read);
        let mut bytes = self.rest.as_slice();
        while let Some((piece, behind)) = first_piece(bytes)? {
            take(piece)?;
            bytes = behind;
        }
        let done = self.rest.len() - bytes.len();
        self.rest.drain(..done);
        Ok(())
    }
}

/// Opens all files of a log, the oldest first.
fn files(directory: &OwnedFd) -> io::Result<VecDeque<File>> {
    let mut found = VecDeque::new();
    for _ in 0..ATTEMPTS {
        found.clear();
        // The newest is opened first. A file that is renamed meanwhile is then found twice, and never missed.
        for age in 0..=oldest(directory)? {
            let Ok(file) = open(directory, &name(age)) else {
                continue;
            };
            if found
                .front()
                .is_none_or(|newer| inode(newer) != inode(&file))
            {
                found.push_front(file);
            }
        }
        let newest = open(directory, &name(0)).ok();
        if newest.as_ref().and_then(inode) == found.back().and_then(inode) {
            break;
        }
    }
    Ok(found)
}

/// Returns the age of the oldest file.
fn oldest(directory: &OwnedFd) -> io::Result<u32> {
    let mut oldest = 0;
    for entry in Dir::read_from(directory)? {
        let age = age(entry?.file_name());
        oldest = oldest.max(age.unwrap_or(0));
    }
    Ok(oldest)
}

fn age(file_name: &CStr) -> Option<u32> {
    file_name.to_str().ok()?.strip_prefix("log.")?.parse().ok()
}

fn open(directory: &OwnedFd, name: &str) -> io::Result<File> {
    regular::open_at(directory, name, OFlags::RDONLY, Links::Refused)
}
