//! One layer, applied to what is below it: image-spec, `layer.md`.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, XattrFlags, fsetxattr, futimens};
use rustix::io::Errno;

use super::entries::{self, Bad, Entry, What};
use super::limits::Budget;
use crate::runtime::root::inside::{self, Inside};

/// A file of this name says that another, whose name follows, is gone.
const GONE: &[u8] = b".wh.";
/// Says that nothing of what is below is in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Files of aufs's own.
const OF_AUFS: &[u8] = b".wh..wh.";

/// What a layer was made of so far.
struct Layer<'inside, 'root> {
    inside: &'inside mut Inside<'root>,
    /// What is in it: it stays, whatever is gone of what is below.
    added: BTreeSet<PathBuf>,
    opaque: HashSet<PathBuf>,
    /// When they were modified, which to fill them changes.
    directories: Vec<(PathBuf, i64)>,
}

/// Applies a layer, a tar archive, to a root file system.
///
/// # Errors
/// It is none, or what is in it would do harm.
pub fn apply(layer: impl Read, inside: &mut Inside<'_>, budget: &mut Budget) -> Result<(), Bad> {
    let mut archive = tar::Archive::new(layer);
    let mut layer = Layer {
        inside,
        added: BTreeSet::new(),
        opaque: HashSet::new(),
        directories: Vec::new(),
    };
    let entries = archive.entries().map_err(Bad::whole)?;
    entries::each(entries, budget, |entry, from| {
        let path = entry.path.clone();
        layer.put(entry, from).map_err(|error| match error {
            Refused::Said(what) => Bad::at(&path, what),
            Refused::Io(error) => Bad::at(&path, error),
        })
    })?;
    for (path, modified) in &layer.directories {
        // One that a later entry has replaced by something else has no time of its own.
        if let Ok(directory) = layer.inside.open(path) {
            set_time(&directory, *modified).map_err(|error| Bad::at(path, error))?;
        }
    }
    Ok(())
}

enum Refused {
    Said(&'static str),
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Nothing that a layer makes has to be new, but a directory in the place of a link that leads nowhere.
            io::ErrorKind::AlreadyExists => {
                Self::Said("below a link that leads to nothing in the image")
            }
            _ if error.raw_os_error() == Some(Errno::OVERFLOW.raw_os_error()) => Self::Said(
                "its owner is not among the ids of the user namespace; give more with --uid-map and --gid-map",
            ),
            _ => Self::Io(error),
        }
    }
}

impl Layer<'_, '_> {
    fn put(&mut self, entry: Entry, from: &mut dyn Read) -> Result<(), Refused> {
        let name = entry.path.file_name().map_or(&b""[..], OsStr::as_bytes);
        if name.starts_with(GONE) {
            return self.take_away(&entry.path, name);
        }
        let Entry { path, access, .. } = entry;
        match entry.what {
            What::File => {
                let mut counted = Counted { from, read: 0 };
                let file = self.inside.file(&path, access, &mut counted)?;
                if counted.read != entry.size {
                    return Err(Refused::Said("the archive ends before it does"));
                }
                set_attributes(&file, &entry.attributes)?;
                set_time(&file, entry.modified)?;
            }
            What::Directory => {
                self.inside.directory(&path, access)?;
                set_attributes(&self.inside.open(&path)?, &entry.attributes)?;
                self.directories.push((path.clone(), entry.modified));
            }
            What::SymbolicLink(target) => self.inside.symbolic_link(&path, &target, access)?,
            What::HardLink(to) => {
                let made = self.inside.hard_link(&path, &to);
                made.map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => {
                        Refused::Said("a link to a file that is not in the image")
                    }
                    _ => Refused::Io(error),
                })?;
            }
            What::Pipe => self.inside.pipe(&path, access)?,
            // A container has those of its own /dev, and no others.
            What::Device => return Ok(()),
        }
        self.added.insert(path);
        Ok(())
    }

    fn take_away(&mut self, path: &Path, name: &[u8]) -> Result<(), Refused> {
        let directory = path.parent().unwrap_or(Path::new(""));
        if name == OPAQUE {
            if self.opaque.insert(directory.to_owned()) {
                self.empty(directory)?;
            }
            return Ok(());
        }
        if name.starts_with(OF_AUFS) {
            return Ok(());
        }
        let gone = OsStr::from_bytes(&name[GONE.len()..]);
        if gone.is_empty() || gone == "." || gone == ".." {
            return Err(Refused::Said("says that a directory's own name is gone"));
        }
        let gone = directory.join(gone);
        if !self.has(&gone) {
            self.inside.remove(&gone)?;
        }
        Ok(())
    }

    /// Removes from a directory what this layer has not put there.
    fn empty(&mut self, directory: &Path) -> io::Result<()> {
        let opened = match self.inside.open(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for name in inside::names(&opened)? {
            let path = directory.join(name);
            if !self.has(&path) {
                self.inside.remove(&path)?;
            } else if !self.added.contains(&path) {
                self.empty(&path)?;
            }
        }
        Ok(())
    }

    /// Whether this layer has it, or something in it.
    fn has(&self, path: &Path) -> bool {
        // What is in a directory follows it in the order of paths.
        let first = self.added.range(path.to_owned()..).next();
        first.is_some_and(|first| first.starts_with(path))
    }
}

struct Counted<'a> {
    from: &'a mut dyn Read,
    read: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

fn set_time(file: &OwnedFd, modified: i64) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: modified,
            tv_nsec: 0,
        },
    };
    Ok(futimens(file, &times)?)
}

/// Sets what programs can mean by them. Those of overlayfs say where else a file is to be taken from.
fn set_attributes(file: &OwnedFd, attributes: &[(std::ffi::OsString, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in attributes {
        let bytes = name.as_bytes();
        let of_user = bytes.starts_with(b"user.") && !bytes.starts_with(b"user.overlay.");
        if !of_user && bytes != b"security.capability" {
            continue;
        }
        match fsetxattr(file, name.as_os_str(), value, XattrFlags::empty()) {
            // Not this file system's, or not this user's to give.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
