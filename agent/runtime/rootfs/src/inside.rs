//! Writes into a root file system that may be hostile. No path leads out of it, whatever links it holds.

use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::path::Arg;

use super::owners::OwnerMap;
use super::resolve;
use crate::lookup;

/// The owner of a file, in ids of the container, and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileAccess {
    pub user: u32,
    pub group: u32,
    /// Twelve bits, as chmod(2) takes them.
    pub mode: u32,
}

impl FileAccess {
    /// Returns the access of a file of root's.
    pub(crate) const fn of_root(mode: u32) -> Self {
        Self {
            user: 0,
            group: 0,
            mode,
        }
    }
}

/// A directory into which files are written as if it were `/`.
#[derive(Debug)]
pub(crate) struct Inside<'root> {
    root: BorrowedFd<'root>,
    owners: &'root OwnerMap,
    /// The directory of the last file. The next file is often in the same directory.
    last: Option<LastDirectory>,
    /// The number of names that were looked up one by one.
    steps: u64,
}

/// The directory of a file.
#[derive(Debug)]
struct LastDirectory {
    path: PathBuf,
    /// The same path without links.
    real: PathBuf,
    directory: OwnedFd,
}

impl<'root> Inside<'root> {
    /// Returns a writer into `root`. `owners` maps the container's ids to those of this process's user namespace.
    pub(crate) fn new(root: BorrowedFd<'root>, owners: &'root OwnerMap) -> Self {
        Self {
            root,
            owners,
            last: None,
            steps: 0,
        }
    }

    /// Makes a directory, unless it exists, and the missing directories above it. An existing one gets the owner and
    /// mode.
    pub(crate) fn directory(&mut self, path: &Path, access: FileAccess) -> io::Result<()> {
        let Some(name) = path.file_name() else {
            // The root itself.
            return self.set_access(&self.open(Path::new("."))?, access);
        };
        let parent = self.place(path)?;
        let made = match kind(parent, name)? {
            Some(FileType::Directory) => open_one(parent, name)?,
            Some(_) => {
                fs::unlinkat(parent, name, AtFlags::empty())?;
                make_one(parent, name)?
            }
            None => make_one(parent, name)?,
        };
        self.set_access(&made, access)
    }

    /// Returns the real path of a file at `path`: links in the directories above the file are followed.
    pub(crate) fn real(&mut self, path: &Path) -> io::Result<PathBuf> {
        let Some(name) = path.file_name() else {
            return Ok(PathBuf::new());
        };
        let wanted = parent_of(path);
        if let Some(last) = self.last.as_ref().filter(|last| last.is_at(wanted)) {
            return Ok(last.real.join(name));
        }
        let way = resolve::find(self.root, wanted, &mut self.steps)?;
        let real = way.real.join(name);
        if way.missing.is_empty() {
            self.last = Some(LastDirectory {
                path: wanted.to_owned(),
                real: way.real,
                directory: way.directory,
            });
        }
        Ok(real)
    }

    /// Returns how many names were looked up one by one since the last call.
    pub(crate) fn take_steps(&mut self) -> u64 {
        std::mem::take(&mut self.steps)
    }

    /// Makes a file with the content of `from`, and replaces an existing file. The returned descriptor is open for
    /// reading and writing.
    pub(crate) fn file(
        &mut self,
        path: &Path,
        access: FileAccess,
        from: &mut impl Read,
    ) -> io::Result<OwnedFd> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(access.mode & 0o777);
        let file = self.replace(path, |parent, name| fs::openat(parent, name, flags, mode))?;
        let mut file = std::fs::File::from(file);
        io::copy(from, &mut file)?;
        let file = OwnedFd::from(file);
        self.set_access(&file, access)?;
        Ok(file)
    }

    /// Makes a symbolic link, and replaces an existing file. The target may be anything: look-ups follow it inside the
    /// root only.
    pub(crate) fn symbolic_link(
        &mut self,
        path: &Path,
        target: &OsStr,
        access: FileAccess,
    ) -> io::Result<()> {
        let name = named(path)?;
        let owner = self.owner(access)?;
        self.replace(path, |parent, name| fs::symlinkat(target, parent, name))?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(fs::chownat(
            self.place(path)?,
            name,
            Some(owner.0),
            Some(owner.1),
            flags,
        )?)
    }

    /// Makes a hard link to the file at `existing`, and replaces an existing file at `path`.
    pub(crate) fn hard_link(&mut self, path: &Path, existing: &Path) -> io::Result<()> {
        let old_name = named(existing)?.to_owned();
        let old_parent = self.open(parent_of(existing))?;
        let same = path == existing;
        match kind(&old_parent, &old_name)? {
            None => return Err(Errno::NOENT.into()),
            Some(FileType::Directory) => return Err(Errno::PERM.into()),
            Some(_) if same => return Ok(()),
            Some(_) => {}
        }
        // Without `AT_SYMLINK_FOLLOW`, the kernel links to a symbolic link itself, and not to its target.
        let flags = AtFlags::empty();
        self.replace(path, |parent, name| {
            fs::linkat(&old_parent, &old_name, parent, name, flags)
        })
    }

    /// Makes a named pipe, and replaces an existing file.
    pub(crate) fn pipe(&mut self, path: &Path, access: FileAccess) -> io::Result<()> {
        let name = named(path)?;
        let owner = self.owner(access)?;
        self.replace(path, |parent, name| {
            fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR, 0)
        })?;
        let parent = self.place(path)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        given(fs::chownat(
            parent,
            name,
            Some(owner.0),
            Some(owner.1),
            flags,
        ))?;
        // The pipe was made just now, so it is not a link.
        Ok(fs::chmodat(
            parent,
            name,
            Mode::from_raw_mode(access.mode),
            AtFlags::empty(),
        )?)
    }

    /// Removes the file or the directory with all files in it. A missing file is not an error.
    pub(crate) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let name = named(path)?.to_owned();
        self.last = None;
        let parent = match self.open(parent_of(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        remove(&parent, &name)
    }

    fn owner(&self, access: FileAccess) -> io::Result<(Uid, Gid)> {
        let user = Uid::from_raw(self.owners.user(access.user)?);
        Ok((user, Gid::from_raw(self.owners.group(access.group)?)))
    }

    /// Sets the owner and mode of an open file, if it has others. The mode comes last, because a change of the owner
    /// clears mode bits (chown(2)).
    fn set_access(&self, file: &OwnedFd, access: FileAccess) -> io::Result<()> {
        const MODE: u32 = 0o7777;
        let (user, group) = self.owner(access)?;
        let found = fs::fstat(file)?;
        let is_owned = (found.st_uid, found.st_gid) == (user.as_raw(), group.as_raw());
        if !is_owned {
            given(fs::fchown(file, Some(user), Some(group)))?;
        }
        if !is_owned || found.st_mode & MODE != access.mode & MODE {
            fs::fchmod(file, Mode::from_raw_mode(access.mode))?;
        }
        Ok(())
    }

    /// Returns the number of bytes of a file. A link is not followed.
    pub(crate) fn size(&self, path: &Path) -> io::Result<u64> {
        let parent = self.open(parent_of(path))?;
        let found = fs::statat(&parent, named(path)?, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(u64::try_from(found.st_size).unwrap_or(0))
    }

    /// Opens the directory at `path`. Links are followed inside the root.
    pub(crate) fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = lookup::inside(ResolveFlags::NO_XDEV);
        Ok(fs::openat2(self.root, path, flags, Mode::empty(), inside)?)
    }

    /// Opens the directory `path`, and makes it where it does not exist.
    fn made(&mut self, path: &Path) -> io::Result<LastDirectory> {
        let way = resolve::find(self.root, path, &mut self.steps)?;
        let mut directory = way.directory;
        for name in &way.missing {
            directory = make_one(&directory, name)?;
            self.set_access(&directory, FileAccess::of_root(0o755))?;
        }
        Ok(LastDirectory {
            path: path.to_owned(),
            real: way.real,
            directory,
        })
    }

    /// Calls `make` for `path`, and replaces an existing file.
    fn replace<T>(
        &mut self,
        path: &Path,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let name = named(path)?;
        let parent = self.place(path)?;
        match make(parent, name) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
        remove(parent, name)?;
        Ok(make(parent, name)?)
    }

    /// Returns the directory of a file at `path`, and makes it where it does not exist.
    fn place(&mut self, path: &Path) -> io::Result<BorrowedFd<'_>> {
        let wanted = parent_of(path);
        let known = self.last.as_ref().is_some_and(|last| last.is_at(wanted));
        if !known {
            self.last = Some(self.made(wanted)?);
        }
        match &self.last {
            Some(last) => Ok(last.directory.as_fd()),
            None => Err(Errno::NOENT.into()),
        }
    }
}

impl LastDirectory {
    fn is_at(&self, path: &Path) -> bool {
        self.path == path || self.real == path
    }
}

/// Opens a directory. A link is an error.
fn open_one(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty())
}

/// Makes and opens a directory that does not exist.
fn make_one(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    fs::mkdirat(&parent, name, Mode::RWXU)?;
    open_one(parent, name)
}

/// Accepts EINVAL from chown(2). An ordinary user's user namespace may have only one id; all files then belong to that
/// user.
fn given(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::INVAL) => Ok(()),
        other => other,
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn named(path: &Path) -> io::Result<&OsStr> {
    path.file_name().ok_or_else(|| Errno::ISDIR.into())
}

/// Returns the type of a file; `None` where it does not exist. A link is not followed.
fn kind(parent: impl AsFd, name: &OsStr) -> io::Result<Option<FileType>> {
    match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a file is a directory. A link to a directory is not.
pub(crate) fn is_directory(parent: impl AsFd, name: &OsStr) -> io::Result<bool> {
    Ok(kind(parent, name)? == Some(FileType::Directory))
}

fn remove(parent: impl AsFd, name: impl Arg + Copy) -> io::Result<()> {
    match fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = fs::openat(&parent, name, flags, Mode::empty())?;
    for inner in names(&directory)? {
        remove(&directory, inner?.as_c_str())?;
    }
    Ok(fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
}

/// Returns the names in a directory without `.` and `..`. It is an iterator, because there can be many names.
pub(crate) fn names(
    directory: impl AsFd,
) -> Result<impl Iterator<Item = Result<CString, Errno>>, Errno> {
    let entries = Dir::read_from(directory)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_owned()));
    Ok(names.filter(|name| {
        let own = |name: &CString| matches!(name.as_bytes(), b"." | b"..");
        !name.as_ref().is_ok_and(own)
    }))
}
