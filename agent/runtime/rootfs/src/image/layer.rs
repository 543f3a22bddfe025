//! Applies one layer to the layers below it (image-spec, `layer.md`).

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, XattrFlags, fsetxattr, futimens};
use rustix::io::Errno;

use super::entries::{self, ArchiveEntry, Bad, EntryKind};
use super::names::EntryNames;
use super::packed::Counted;
use crate::budget::{UnpackBudget, check_path};
use crate::inside::{self, Inside};

/// The prefix of a whiteout, which says that the file whose name follows is removed.
const GONE: &[u8] = b".wh.";
/// The opaque whiteout, which hides the files of lower layers in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The prefix of aufs's own files.
const OF_AUFS: &[u8] = b".wh..wh.";

/// The number of bytes of a file that are read at a time.
const CHUNK: u64 = 64 * 1024;

/// The bytes of this process's memory that a directory takes besides its path.
const DIRECTORY: usize = 48;

/// The state of a layer while it is applied.
struct Layer<'inside, 'root> {
    inside: &'inside mut Inside<'root>,
    /// The paths that the layer added, and the directories above them. Whiteouts of the layer do not remove these.
    added: EntryNames,
    opaque: EntryNames,
    /// The paths that were taken from the budget: directories that are made or copied up, and files that are copied up.
    /// Before overlayfs links a file of a lower layer, it copies that file up.
    charged: EntryNames,
    /// The directories with their modification times. These are set last, because filling a directory changes its time.
    directories: Vec<(PathBuf, i64)>,
}

/// Applies a layer, a tar archive, to a root file system.
///
/// # Errors
/// The input is not a tar archive, or an entry is refused.
pub(super) fn apply(
    layer: impl Read,
    inside: &mut Inside<'_>,
    budget: &mut UnpackBudget,
) -> Result<(), Bad> {
    let mut archive = tar::Archive::new(layer);
    let mut layer = Layer {
        inside,
        added: EntryNames::default(),
        opaque: EntryNames::default(),
        charged: EntryNames::default(),
        directories: Vec::new(),
    };
    let entries = archive.entries().map_err(Bad::whole)?;
    let mut kept = 0;
    entries::each(entries, budget, |entry, from, budget| {
        let path = entry.path.clone();
        let directories = layer.directories.len();
        layer
            .put(entry, from, budget)
            .map_err(|error| match error {
                Refused::Invalid(what) => Bad::at(&path, what),
                Refused::Spent(what) => Bad::at(&path, what),
                Refused::Io(error) => Bad::at(&path, error),
            })?;
        for (path, _) in &layer.directories[directories..] {
            let bytes = DIRECTORY + path.as_os_str().len();
            budget.keep(bytes).map_err(Bad::whole)?;
            kept += bytes;
        }
        Ok(())
    })?;
    budget.forget(kept);
    for (path, modified) in &layer.directories {
        // A later entry may have replaced the directory by another file, which has a time of its own.
        if let Ok(directory) = layer.inside.open(path) {
            set_time(&directory, *modified).map_err(|error| Bad::at(path, error))?;
        }
    }
    Ok(())
}

enum Refused {
    Invalid(&'static str),
    /// The budget is exceeded.
    Spent(String),
    Io(io::Error),
}

impl From<String> for Refused {
    fn from(spent: String) -> Self {
        Self::Spent(spent)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A layer may replace every file. Only a directory that a dangling link would lead to gives this error.
            io::ErrorKind::AlreadyExists => {
                Self::Invalid("below a link that leads to nothing in the image")
            }
            _ if error.raw_os_error() == Some(Errno::OVERFLOW.raw_os_error()) => Self::Invalid(
                "its owner is not among the ids of the user namespace; give more with --uid-map and --gid-map",
            ),
            _ => Self::Io(error),
        }
    }
}

impl Layer<'_, '_> {
    fn put(
        &mut self,
        entry: ArchiveEntry,
        from: &mut dyn Read,
        budget: &mut UnpackBudget,
    ) -> Result<(), Refused> {
        let name = entry.path.file_name().map_or(&b""[..], OsStr::as_bytes);
        if name.starts_with(GONE) {
            budget.file(0)?;
            return self.take_away(&entry.path, name, budget);
        }
        let path = self.real(&entry.path, budget)?;
        let access = entry.access;
        budget.file(match entry.what {
            EntryKind::File => entry.size,
            _ => 0,
        })?;
        budget.bytes(entry.attributes.iter().map(|(_, it)| it.len() as u64).sum())?;
        self.above(&path, budget)?;
        match entry.what {
            EntryKind::File => {
                let capacity = entry.size.min(CHUNK) as usize;
                let mut counted = Counted::new(from);
                let mut chunks = io::BufReader::with_capacity(capacity, &mut counted);
                let file = self.inside.file(&path, access, &mut chunks)?;
                if counted.read != entry.size {
                    return Err(Refused::Invalid("the archive ends before it does"));
                }
                set_attributes(&file, &entry.attributes)?;
                set_time(&file, entry.modified)?;
            }
            EntryKind::Directory => {
                self.inside.directory(&path, access)?;
                set_attributes(&self.inside.open(&path)?, &entry.attributes)?;
                self.directories.push((path.clone(), entry.modified));
                self.charged.insert(&path);
            }
            EntryKind::SymbolicLink(target) => self.inside.symbolic_link(&path, &target, access)?,
            EntryKind::HardLink(to) => self.link(&path, &to, budget)?,
            EntryKind::Pipe => self.inside.pipe(&path, access)?,
            // A container has only the devices of its own /dev.
            EntryKind::Device => return Ok(()),
        }
        for it in path.ancestors() {
            if !self.added.insert(it) && it != path {
                break;
            }
        }
        Ok(())
    }

    /// Returns the real path of a file, without links. The cost of the file depends on its real path, and not on the
    /// entry's path.
    fn real(&mut self, path: &Path, budget: &mut UnpackBudget) -> Result<PathBuf, Refused> {
        let real = self.inside.real(path);
        budget.steps(self.inside.take_steps())?;
        Ok(real?)
    }

    /// Takes the directories above a path from the budget. They are made, or copied up, unless that has happened.
    fn above(&mut self, path: &Path, budget: &mut UnpackBudget) -> Result<(), Refused> {
        for above in path.ancestors().skip(1) {
            if above.as_os_str().is_empty() || !self.charged.insert(above) {
                break;
            }
            budget.entry()?;
            budget.file(0)?;
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, to: &Path, budget: &mut UnpackBudget) -> Result<(), Refused> {
        check_path(to)?;
        let to = self.real(to, budget)?;
        // overlayfs copies up a file of a lower layer before it links it.
        if !self.added.has(&to) && self.charged.insert(&to) {
            self.above(&to, budget)?;
            budget.file(self.inside.size(&to).unwrap_or(0))?;
        }
        let made = self.inside.hard_link(path, &to);
        made.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Refused::Invalid("a link to a file that is not in the image")
            }
            _ => Refused::Io(error),
        })
    }

    fn take_away(
        &mut self,
        path: &Path,
        name: &[u8],
        budget: &mut UnpackBudget,
    ) -> Result<(), Refused> {
        let path = match self.real(path, budget) {
            // A link on the path is dangling, so there is nothing to remove.
            Err(Refused::Invalid(_)) => return Ok(()),
            other => other?,
        };
        let directory = path.parent().unwrap_or(Path::new(""));
        if name == OPAQUE {
            if self.opaque.insert(directory) {
                self.empty(directory)?;
            }
            return Ok(());
        }
        if name.starts_with(OF_AUFS) {
            return Ok(());
        }
        let gone = OsStr::from_bytes(&name[GONE.len()..]);
        if gone.is_empty() || gone == "." || gone == ".." {
            return Err(Refused::Invalid("a whiteout that names no file"));
        }
        let gone = directory.join(gone);
        if !self.added.has(&gone) {
            self.above(&gone, budget)?;
            self.inside.remove(&gone)?;
        }
        Ok(())
    }

    /// Removes the files from a directory that this layer has not added.
    fn empty(&mut self, directory: &Path) -> io::Result<()> {
        let opened = match self.inside.open(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for name in inside::names(&opened)? {
            let name = OsString::from_vec(name?.into_bytes());
            let path = directory.join(&name);
            if !self.added.has(&path) {
                self.inside.remove(&path)?;
            } else if inside::is_directory(&opened, &name)? {
                self.empty(&path)?;
            }
        }
        Ok(())
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

/// Sets the attributes that programs use. Those of overlayfs are left out, because they can redirect a file to another
/// one.
fn set_attributes(file: &OwnedFd, attributes: &[(OsString, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in attributes {
        let bytes = name.as_bytes();
        let of_user = bytes.starts_with(b"user.") && !bytes.starts_with(b"user.overlay.");
        if !of_user && bytes != b"security.capability" {
            continue;
        }
        match fsetxattr(file, name.as_os_str(), value, XattrFlags::empty()) {
            // The file system does not support the attribute, or this user may not set it.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
