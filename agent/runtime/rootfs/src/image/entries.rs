//! Reads the entries of an untrusted tar archive: ustar, with the extensions of pax and GNU.
//!
//! The crate `tar` reads the headers. An archive chooses the length of its extensions, so this module reads those, up
//! to a limit.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use tar::{EntryType, PaxExtensions};

use crate::budget::{UnpackBudget, check_path};
use crate::inside::FileAccess;

/// The most bytes of the extensions of one entry: names, times, attributes.
const LONGEST_EXTENSION: u64 = 1024 * 1024;

/// The most bytes of a name, with its NUL (`PATH_MAX`).
const LONGEST_NAME: u64 = 4096;

/// The keys of the pax records that are kept. Those that begin with [`ATTRIBUTE`] are kept too.
const KEPT: [&str; 5] = ["path", "linkpath", "size", "uid", "gid"];

/// The prefix of GNU tar's records about a file whose zeros it left out.
const SPARSE: &str = "GNU.sparse.";

/// The prefix of the keys of extended attributes.
const ATTRIBUTE: &str = "SCHILY.xattr.";

/// An entry of an archive, checked.
#[derive(Debug)]
pub(super) struct ArchiveEntry {
    /// The path, relative to the root: without a leading `/`, without `.` and `..`.
    pub path: PathBuf,
    pub what: EntryKind,
    pub access: FileAccess,
    /// The modification time, in seconds since 1970.
    pub modified: i64,
    /// Extended attributes.
    pub attributes: Vec<(OsString, Vec<u8>)>,
    /// The offset of the entry's content in the archive.
    pub offset: u64,
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Directory,
    SymbolicLink(OsString),
    /// Another name of the entry with this path, which is relative to the root.
    HardLink(PathBuf),
    Pipe,
    Device,
}

/// Why an archive is refused.
#[derive(Debug)]
pub(super) struct Bad {
    /// The entry's path as the archive names it; `None` for the archive as a whole.
    pub entry: Option<PathBuf>,
    pub what: String,
}

impl Bad {
    pub(super) fn whole(what: impl ToString) -> Self {
        Self {
            entry: None,
            what: what.to_string(),
        }
    }

    pub(super) fn at(entry: &Path, what: impl ToString) -> Self {
        Self {
            entry: Some(entry.to_owned()),
            what: what.to_string(),
        }
    }
}

/// The extensions before an entry, which describe it.
#[derive(Default)]
struct EntryText {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: HashMap<String, Vec<u8>>,
    /// The number of bytes of the extensions so far.
    bytes: u64,
    is_sparse: bool,
}

/// Calls `each` for all entries of an archive, in order, with a reader of the entry's content.
///
/// # Errors
/// Those of `each`; or the input is not a tar archive, or is a malicious one.
pub(super) fn each<R: Read>(
    entries: tar::Entries<'_, R>,
    budget: &mut UnpackBudget,
    mut each: impl FnMut(ArchiveEntry, &mut dyn Read, &mut UnpackBudget) -> Result<(), Bad>,
) -> Result<(), Bad> {
    let mut said = EntryText::default();
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(|error| Bad::whole(whole(&error)))?;
        budget.entry().map_err(Bad::whole)?;
        if !said.take(&mut entry)? {
            let said = std::mem::take(&mut said);
            let checked = said.about(&entry)?;
            each(checked, &mut entry, budget)?;
        }
    }
    Ok(())
}

fn whole(error: &io::Error) -> String {
    if is_refused(error) {
        return error.to_string();
    }
    // The error quotes the file, which is not trusted.
    let reason = error.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    format!("not a tar archive, or not a whole one ({reason})")
}

impl EntryText {
    /// Takes an extension of the next entry. Returns false for an entry of its own.
    fn take<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<bool, Bad> {
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                self.path = Some(until_nul(self.read(entry, LONGEST_NAME)?));
            }
            EntryType::GNULongLink => {
                self.link = Some(until_nul(self.read(entry, LONGEST_NAME)?));
            }
            EntryType::XHeader => {
                let bytes = self.read(entry, LONGEST_EXTENSION)?;
                for record in PaxExtensions::new(&bytes) {
                    let record = record.map_err(|error| Bad::whole(whole(&error)))?;
                    let Ok(key) = record.key() else { continue };
                    self.is_sparse |= key.starts_with(SPARSE);
                    if KEPT.contains(&key) || key.starts_with(ATTRIBUTE) {
                        let value = record.value_bytes().to_vec();
                        self.records.insert(key.to_owned(), value);
                    }
                }
            }
            // It is about all entries that follow, for example the maker of the archive.
            EntryType::XGlobalHeader => drop(self.read(entry, LONGEST_EXTENSION)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads one extension of an entry. There is a limit for each, and one for all of the entry.
    fn read<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, most: u64) -> Result<Vec<u8>, Bad> {
        let size = entry.size();
        self.bytes = self.bytes.saturating_add(size);
        if size > most || self.bytes > LONGEST_EXTENSION {
            let most = most.min(LONGEST_EXTENSION);
            return Err(Bad::whole(format!(
                "an entry's name or attributes have {} bytes; wanted at most {most}",
                self.bytes
            )));
        }
        let mut bytes = Vec::new();
        let read = entry.read_to_end(&mut bytes);
        read.map_err(|error| Bad::whole(whole(&error)))?;
        Ok(bytes)
    }

    fn about<R: Read>(self, entry: &tar::Entry<'_, R>) -> Result<ArchiveEntry, Bad> {
        let header = entry.header();
        let named = |own: Option<&Vec<u8>>, key, other: &[u8]| {
            let own = own.or_else(|| self.records.get(key));
            OsString::from_vec(own.map_or_else(|| other.to_vec(), Clone::clone))
        };
        let name = named(self.path.as_ref(), "path", &header.path_bytes());
        let link = header.link_name_bytes().unwrap_or_default();
        let link = named(self.link.as_ref(), "linkpath", &link);
        check_path(Path::new(&name)).map_err(Bad::whole)?;
        let bad = |what: &str| Bad::at(Path::new(&name), what);
        if self.is_sparse || header.entry_type() == EntryType::GNUSparse {
            return Err(bad(
                "a sparse file, which images do not have; wanted its whole bytes",
            ));
        }
        if self.number("size").is_some_and(|size| size != entry.size()) {
            return Err(bad("larger than the format has room for"));
        }
        let what = match header.entry_type() {
            EntryType::Regular if name.as_bytes().ends_with(b"/") => EntryKind::Directory,
            EntryType::Regular | EntryType::Continuous => EntryKind::File,
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => EntryKind::SymbolicLink(link),
            EntryType::Link => EntryKind::HardLink(relative(&link).map_err(|what| {
                bad(&format!("a link to {}: {what}", Path::new(&link).display()))
            })?),
            EntryType::Fifo => EntryKind::Pipe,
            EntryType::Char | EntryType::Block => EntryKind::Device,
            other => {
                let kind = char::from(other.as_byte());
                return Err(bad(&format!(
                    "an entry of kind {kind:?}, which is not known"
                )));
            }
        };
        let id = |key, header: io::Result<u64>| {
            let id = self.number(key).or_else(|| header.ok());
            let id = id.and_then(|id| u32::try_from(id).ok());
            id.filter(|id| *id != u32::MAX)
                .ok_or_else(|| bad("its owner is no number that Linux has"))
        };
        let mode = header.mode().map_err(|_| bad("its mode is no number"))?;
        Ok(ArchiveEntry {
            path: relative(&name).map_err(bad)?,
            what,
            access: FileAccess {
                user: id("uid", header.uid())?,
                group: id("gid", header.gid())?,
                mode: mode & 0o7777,
            },
            modified: header
                .mtime()
                .ok()
                .and_then(|it| i64::try_from(it).ok())
                .unwrap_or(0),
            attributes: self.attributes(),
            offset: entry.raw_file_position(),
            size: entry.size(),
        })
    }

    fn number(&self, key: &str) -> Option<u64> {
        std::str::from_utf8(self.records.get(key)?)
            .ok()?
            .parse()
            .ok()
    }

    fn attributes(&self) -> Vec<(OsString, Vec<u8>)> {
        let attributes = self.records.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix(ATTRIBUTE)?;
            Some((name.into(), value.clone()))
        });
        attributes.collect()
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = memchr::memchr(0, &bytes) {
        bytes.truncate(end);
    }
    bytes
}

/// Converts a name in an archive to a path relative to the root.
///
/// # Errors
/// The name has a `..`, which can lead out of the root.
pub(super) fn relative(name: &OsStr) -> Result<PathBuf, &'static str> {
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => return Err("a path with `..`, which can lead out of the root"),
        }
    }
    Ok(path)
}

/// Whether an error is from `packed::refused`. Its text then needs no addition.
pub(super) fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge && error.get_ref().is_some()
}
