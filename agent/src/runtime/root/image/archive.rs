//! The archive that an image is in, as files by their paths.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use super::entries::{self, Bad, What};
use super::input::Input;
use super::packed::{self, Unpacked};
use crate::runtime::root::budget::Budget;

/// Links to files in an archive that lead on to others.
const MOST_LINKS: usize = 8;

/// Bytes that are read at a time.
const CHUNK: usize = 64 * 1024;

/// What a member takes of this process's memory beside its names.
const MEMBER: usize = 96;

/// An archive that was looked through.
#[derive(Debug)]
pub struct Archive {
    file: File,
    members: HashMap<PathBuf, Member>,
}

#[derive(Debug)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// The same as another, whose path it is.
    Link(PathBuf),
}

impl Archive {
    /// Looks through the archive. What cannot be read twice, or is compressed, is first copied into the file that
    /// `copy` gives.
    ///
    /// # Errors
    /// It is none, or none that is read here.
    pub fn new(
        input: Input,
        budget: &mut Budget,
        copy: impl FnOnce() -> io::Result<File>,
    ) -> Result<Self, Bad> {
        let file = match input {
            Input::File(mut file) => {
                let (start, is_packed) = packed::start_of(&file)?;
                if is_packed {
                    let all = io::Cursor::new(start).chain(file);
                    fill(copy().map_err(Bad::whole)?, Unpacked::new(all), budget)?
                } else {
                    io::Seek::rewind(&mut file).map_err(Bad::whole)?;
                    file
                }
            }
            Input::Pipe(mut pipe) => {
                let (start, is_packed) = packed::start_of(&mut pipe)?;
                let all = io::Cursor::new(start).chain(pipe);
                let into = copy().map_err(Bad::whole)?;
                match is_packed {
                    true => fill(into, Unpacked::new(all), budget)?,
                    false => fill(into, all, budget)?,
                }
            }
        };
        let members = members(&file, budget)?;
        Ok(Self { file, members })
    }

    pub fn has(&self, path: &Path) -> bool {
        self.members.contains_key(path)
    }

    /// A file's bytes, of which there may be `most`.
    ///
    /// # Errors
    /// There is none, or it is larger.
    pub fn bytes(&self, path: &Path, most: u64) -> Result<Vec<u8>, Bad> {
        let mut part = self.part(path)?;
        if part.left > most {
            return Err(Bad::at(path, format!("larger than {most} bytes")));
        }
        let mut bytes = Vec::new();
        let read = part.read_to_end(&mut bytes);
        read.map_err(|error| Bad::at(path, error))?;
        Ok(bytes)
    }

    /// A file, unpacked where it is compressed; `size` is what something else says of its bytes here.
    ///
    /// # Errors
    /// There is none, it has another size, or it is compressed in a way that is not known here.
    pub fn unpacked(&self, path: &Path, size: Option<u64>) -> Result<Box<dyn Read + '_>, Bad> {
        let part = self.part(path)?;
        if let Some(size) = size.filter(|size| *size != part.left) {
            let what = format!("has {} bytes, and the manifest says {size}", part.left);
            return Err(Bad::at(path, what));
        }
        let (_, is_packed) = packed::start_of(self.part(path)?).map_err(|bad| Bad {
            entry: Some(path.to_owned()),
            ..bad
        })?;
        Ok(match is_packed {
            true => Box::new(io::BufReader::with_capacity(CHUNK, Unpacked::new(part))),
            false => Box::new(io::BufReader::with_capacity(CHUNK, part)),
        })
    }

    fn part(&self, path: &Path) -> Result<Part<'_>, Bad> {
        let mut at = path;
        for _ in 0..MOST_LINKS {
            match self.members.get(at) {
                Some(Member::File { offset, size }) => {
                    return Ok(Part {
                        file: &self.file,
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
            "not in the archive, though the archive speaks of it",
        ))
    }
}

/// The files in an archive. Their bytes are counted when they are unpacked.
fn members(file: &File, budget: &mut Budget) -> Result<HashMap<PathBuf, Member>, Bad> {
    let end = file.metadata().map_err(Bad::whole)?.len();
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(file);
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
            What::File => Member::File {
                offset: entry.offset,
                size: entry.size,
            },
            What::HardLink(to) => Member::Link(to),
            What::SymbolicLink(to) => match beside(&entry.path, Path::new(&to)) {
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

/// Where a link leads to; None where that is outside.
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

/// Copies into a file, each chunk once there is room for it.
fn fill(mut file: File, mut from: impl Read, budget: &mut Budget) -> Result<File, Bad> {
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
    io::Seek::rewind(&mut file).map_err(Bad::whole)?;
    Ok(file)
}

/// Some bytes of a file.
struct Part<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
