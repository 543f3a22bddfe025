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

/// Whose a file is to be, as the container counts, and what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileAccess {
    pub user: u32,
    pub group: u32,
    /// Twelve bits, as chmod(2) takes them.
    pub mode: u32,
}

impl FileAccess {
    /// Root's.
    pub(crate) const fn of_root(mode: u32) -> Self {
        Self {
            user: 0,
            group: 0,
            mode,
        }
    }
}

/// A directory that is written into as if it were `/`.
#[derive(Debug)]
pub(crate) struct Inside<'root> {
    root: BorrowedFd<'root>,
    owners: &'root OwnerMap,
    /// Of the file that was placed last: the next is often beside it.
    last: Option<LastDirectory>,
    /// What look-ups took.
    steps: u64,
}

/// The directory of a file.
#[derive(Debug)]
struct LastDirectory {
    path: PathBuf,
    /// The same, by names of which none is a link.
    real: PathBuf,
    directory: OwnedFd,
}

impl<'root> Inside<'root> {
    /// `owners` says who those of files are on this side.
    pub(crate) fn new(root: BorrowedFd<'root>, owners: &'root OwnerMap) -> Self {
        Self {
            root,
            owners,
            last: None,
            steps: 0,
        }
    }

    /// Makes a directory, unless it is there; others above it where they are not.
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

    /// Where a file at `path` really is, links on the way to it followed.
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

    /// How many names were looked up one by one since the last call.
    pub(crate) fn take_steps(&mut self) -> u64 {
        std::mem::take(&mut self.steps)
    }

    /// Makes a file of what `from` gives, in the place of what is there. What comes back is open for reading and writing.
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

    /// Makes a symbolic link, in the place of what is there. Where it leads to is nobody's business but the container's.
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

    /// Makes one more name of the file at `existing`, in the place of what is there.
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
        // Without AT_SYMLINK_FOLLOW the link itself is linked to, not what it leads to.
        let flags = AtFlags::empty();
        self.replace(path, |parent, name| {
            fs::linkat(&old_parent, &old_name, parent, name, flags)
        })
    }

    /// Makes a named pipe, in the place of what is there.
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
        // It is no link: it was made just now.
        Ok(fs::chmodat(
            parent,
            name,
            Mode::from_raw_mode(access.mode),
            AtFlags::empty(),
        )?)
    }

    /// Removes what is there, with all below it. Nothing there is fine.
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

    /// Sets owner and mode of an open file where it has others; the mode last, since a change of owner takes bits away.
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

    /// Bytes of the file that is there, links not followed.
    pub(crate) fn size(&self, path: &Path) -> io::Result<u64> {
        let parent = self.open(parent_of(path))?;
        let found = fs::statat(&parent, named(path)?, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(u64::try_from(found.st_size).unwrap_or(0))
    }

    /// The directory at `path`, links in it followed inside.
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

    /// The directory `path`; where it is not there, it is made.
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

    /// Makes something at `path`, in the place of what is there.
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

    /// The directory that a file at `path` is in.
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

/// Opens a directory, which is no link.
fn open_one(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty())
}

/// Makes a directory that is not there.
fn make_one(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    fs::mkdirat(&parent, name, Mode::RWXU)?;
    open_one(parent, name)
}

/// What giving a file away comes to. An ordinary user's own user namespace may have no other ids: all files are this
/// user's then.
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

/// What is there under this name, links not followed.
fn kind(parent: impl AsFd, name: &OsStr) -> io::Result<Option<FileType>> {
    match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether it is a directory, and no link to one.
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

/// What is in a directory, but `.` and `..`; one after the other, since there can be many.
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
