//! Reads the files of an image's archive by their paths.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use super::entries::{self, Bad, EntryKind};
use super::input::Input;
use super::interruption::Stop;
use super::packed::{self, Unpacked};
use crate::budget::UnpackBudget;

/// The most links in an archive that lead from one to the next.
const MOST_LINKS: usize = 8;

/// The number of bytes that are read at a time.
const CHUNK: usize = 64 * 1024;

/// The bytes of this process's memory that a member takes besides its names.
const MEMBER: usize = 96;

/// An archive whose members are known.
pub(super) struct Archive<'a> {
    file: File,
    members: HashMap<PathBuf, Member>,
    stop: &'a dyn Stop,
}

/// An archive whose members are not known yet.
pub(super) enum Source<'a> {
    Plain(File),
    /// A stream that is compressed, or cannot be read twice. The caller has to copy it to a file.
    Copied(Box<dyn Read + 'a>),
}

impl<'a> Source<'a> {
    /// Finds out whether the input is to be copied first.
    ///
    /// # Errors
    /// The compression is not supported, or the input cannot be read.
    pub(super) fn of(input: Input<'a>, stop: &'a dyn Stop) -> Result<Self, Bad> {
        Ok(match input {
            Input::File(mut file) => {
                let (start, format) = packed::start_of(&file)?;
                if let Some(format) = format {
                    let all = io::Cursor::new(start).chain(Checked { from: file, stop });
                    Self::Copied(Box::new(Unpacked::new(all, format)))
                } else {
                    io::Seek::rewind(&mut file).map_err(Bad::whole)?;
                    Self::Plain(file)
                }
            }
            Input::Pipe(mut pipe) => {
                let (start, format) = packed::start_of(&mut pipe)?;
                let all = io::Cursor::new(start).chain(pipe);
                match format {
                    Some(format) => Self::Copied(Box::new(Unpacked::new(all, format))),
                    None => Self::Copied(Box::new(all)),
                }
            }
        })
    }
}

/// A reader that fails once a signal has come.
struct Checked<'a, R> {
    from: R,
    stop: &'a dyn Stop,
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        self.from.read(buffer)
    }
}

impl<R: io::Seek> io::Seek for Checked<'_, R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.from.seek(to)
    }
}

#[derive(Debug)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// A link to the member with this path.
    Link(PathBuf),
}

impl<'a> Archive<'a> {
    /// Reads the list of the archive's members.
    ///
    /// # Errors
    /// The file is not a tar archive, or it has entries that are not supported.
    pub(super) fn new(
        mut file: File,
        stop: &'a dyn Stop,
        budget: &mut UnpackBudget,
    ) -> Result<Self, Bad> {
        io::Seek::rewind(&mut file).map_err(Bad::whole)?;
        let members = members(&file, stop, budget)?;
        Ok(Self {
            file,
            members,
            stop,
        })
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.members.contains_key(path)
    }

    /// Returns the bytes of a file, of which there may be `most`.
    ///
    /// # Errors
    /// There is no such file, or it is larger.
    pub(super) fn bytes(&self, path: &Path, most: u64) -> Result<Vec<u8>, Bad> {
        let mut part = self.part(path)?;
        if part.left > most {
            return Err(Bad::at(path, format!("larger than {most} bytes")));
        }
        let mut bytes = Vec::new();
        let read = part.read_to_end(&mut bytes);
        read.map_err(|error| Bad::at(path, error))?;
        Ok(bytes)
    }

    /// Returns a reader of a file, which decompresses it if necessary. `size` is the number of bytes in the archive,
    /// according to the manifest.
    ///
    /// # Errors
    /// There is no such file, it has another size, or its compression is not supported.
    pub(super) fn unpacked(
        &self,
        path: &Path,
        size: Option<u64>,
    ) -> Result<Box<dyn Read + '_>, Bad> {
        let part = self.part(path)?;
        if let Some(size) = size.filter(|size| *size != part.left) {
            let what = format!("has {} bytes, and the manifest says {size}", part.left);
            return Err(Bad::at(path, what));
        }
        let (_, format) = packed::start_of(self.part(path)?).map_err(|bad| Bad {
            entry: Some(path.to_owned()),
            ..bad
        })?;
        Ok(match format {
            Some(format) => Box::new(io::BufReader::with_capacity(
                CHUNK,
                Unpacked::new(part, format),
            )),
            None => Box::new(io::BufReader::with_capacity(CHUNK, part)),
        })
    }

    fn part(&self, path: &Path) -> Result<Part<'_>, Bad> {
        let mut at = path;
        for _ in 0..MOST_LINKS {
            match self.members.get(at) {
                Some(Member::File { offset, size }) => {
                    return Ok(Part {
                        archive: self,
                        at: *offset,
                        left: *size,
                    });
                }
                Some(Member::Link(to)) => at = to,
                None => break,
            }
        }
        Err(Bad::at(
            path,
            "not in the archive, though the archive refers to it",
        ))
    }
}

/// Returns the files in an archive. Their bytes are taken from the budget only when they are unpacked.
fn members(
    file: &File,
    stop: &dyn Stop,
    budget: &mut UnpackBudget,
) -> Result<HashMap<PathBuf, Member>, Bad> {
    let end = file.metadata().map_err(Bad::whole)?.len();
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(Checked { from: file, stop });
    let entries = archive.entries_with_seek().map_err(Bad::whole)?;
    entries::each(entries, budget, |entry, _, budget| {
        let is_whole = entry
            .offset
            .checked_add(entry.size)
            .is_some_and(|last| last <= end);
        if !is_whole {
            return Err(Bad::at(&entry.path, "the archive ends before it does"));
        }
        let member = match entry.what {
            EntryKind::File => Member::File {
                offset: entry.offset,
                size: entry.size,
            },
            EntryKind::HardLink(to) => Member::Link(to),
            EntryKind::SymbolicLink(to) => match beside(&entry.path, Path::new(&to)) {
                Some(to) => Member::Link(to),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let link = match &member {
            Member::File { .. } => 0,
            Member::Link(to) => to.as_os_str().len(),
        };
        let kept = MEMBER + entry.path.as_os_str().len() + link;
        budget.keep(kept).map_err(Bad::whole)?;
        members.insert(entry.path, member);
        Ok(())
    })?;
    Ok(members)
}

/// Returns the path that a symbolic link leads to; `None` where that is outside of the archive.
fn beside(path: &Path, to: &Path) -> Option<PathBuf> {
    let mut at = path.parent()?.to_owned();
    for component in to.components() {
        match component {
            Component::Normal(name) => at.push(name),
            Component::ParentDir => at.pop().then_some(())?,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(at)
}

/// Copies a stream into a file. Takes each chunk from the budget before it writes the chunk.
pub(super) fn fill(
    mut file: &File,
    mut from: impl Read,
    budget: &mut UnpackBudget,
) -> Result<(), Bad> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Bad::whole(error)),
        };
        budget.bytes(read as u64).map_err(Bad::whole)?;
        file.write_all(&chunk[..read]).map_err(Bad::whole)?;
    }
    Ok(())
}

/// A range of the archive's bytes.
struct Part<'a> {
    archive: &'a Archive<'a>,
    at: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        self.archive.stop.check()?;
        let read = self.archive.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
