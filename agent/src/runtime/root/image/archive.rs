//! The archive that an image is in, as files by their paths.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rustix::fs::{MemfdFlags, memfd_create};

use super::entries::{self, Bad, What};
use super::limits::{Budget, too_large};

/// Links to files in an archive that lead on to others.
const MOST_LINKS: usize = 8;

/// How files are compressed, by what they begin with.
const FORMATS: [(&[u8], &str); 4] = [
    (b"\x1f\x8b", GZIP),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
];

const GZIP: &str = "gzip";

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
    /// Looks through the archive. What cannot be read twice, or is compressed, is first copied into memory.
    ///
    /// # Errors
    /// It is none, or none that is read here.
    pub fn new(file: File, budget: &Budget) -> Result<Self, Bad> {
        let regular = file.metadata().map_err(Bad::whole)?.is_file();
        let (start, packed) = start_of(&file)?;
        let file = match packed {
            Some(_) => {
                let all = io::Cursor::new(start).chain(file);
                copy(MultiGzDecoder::new(all), budget)?
            }
            None if regular => file,
            None => copy(io::Cursor::new(start).chain(file), budget)?,
        };
        io::Seek::rewind(&mut &file).map_err(Bad::whole)?;
        let mut members = HashMap::new();
        let mut archive = tar::Archive::new(&file);
        let entries = archive.entries_with_seek().map_err(Bad::whole)?;
        // Of the layers the bytes are counted when they are unpacked.
        let mut many = Budget::new(u64::MAX);
        entries::each(entries, &mut many, |entry, _| {
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
            members.insert(entry.path, member);
            Ok(())
        })?;
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

    /// A file, unpacked where it is compressed.
    ///
    /// # Errors
    /// There is none, or it is compressed in a way that is not known here.
    pub fn unpacked(&self, path: &Path) -> Result<Box<dyn Read + '_>, Bad> {
        let part = self.part(path)?;
        let (start, packed) = start_of(&mut self.part(path)?).map_err(|bad| Bad {
            entry: Some(path.to_owned()),
            ..bad
        })?;
        drop(start);
        Ok(match packed {
            Some(_) => Box::new(io::BufReader::new(MultiGzDecoder::new(io::BufReader::new(
                part,
            )))),
            None => Box::new(io::BufReader::with_capacity(64 * 1024, part)),
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

/// The first bytes of a file, and whether it is compressed.
fn start_of(mut file: impl Read) -> Result<(Vec<u8>, Option<&'static str>), Bad> {
    let longest = FORMATS.iter().map(|(magic, _)| magic.len()).max();
    let mut start = Vec::new();
    let read = file
        .by_ref()
        .take(longest.unwrap_or(0) as u64)
        .read_to_end(&mut start);
    read.map_err(Bad::whole)?;
    let packed = FORMATS.iter().find(|(magic, _)| start.starts_with(magic));
    match packed {
        None => Ok((start, None)),
        Some((_, GZIP)) => Ok((start, Some(GZIP))),
        Some((_, other)) => Err(Bad::whole(format!(
            "compressed with {other}; wanted a tar archive as it is, or compressed with gzip"
        ))),
    }
}

/// A copy in memory.
fn copy(from: impl Read, budget: &Budget) -> Result<File, Bad> {
    let memory = memfd_create("agent-image", MemfdFlags::CLOEXEC).map_err(Bad::whole)?;
    let mut memory = File::from(memory);
    let most = budget.whole();
    let copied = io::copy(&mut from.take(most.saturating_add(1)), &mut memory);
    if copied.map_err(Bad::whole)? > most {
        return Err(Bad::whole(too_large(most)));
    }
    Ok(memory)
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
