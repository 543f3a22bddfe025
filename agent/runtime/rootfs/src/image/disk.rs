//! Keeps the layers of one image in a directory on disk.
//!
//! A process locks the directory for as long as the container lives. The next command removes a directory whose lock is
//! free, because the process that made it was killed.

use std::ffi::CStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use agent_host::launch::is_in_user_namespace;
use agent_host::rootless;
use agent_sys::fork::{Side, exit, fork};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, FsWord, Mode, OFlags, Stat, flock, fstat, fstatvfs, openat,
    renameat, stat, statfs, unlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::{WaitOptions, geteuid, getpid, waitpid};

use crate::budget::UnpackBudget;
use crate::inside::names;

/// Where root's directories are.
const OF_ROOT: &str = "/var/lib/agent/images";

/// Where the directories of other users are, below their home directories.
const OF_OTHERS: &str = ".local/share/agent/images";

/// The file systems in memory (`TMPFS_MAGIC`, `RAMFS_MAGIC`).
const MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];

/// The most attempts: another process may remove a new directory before this process has locked it.
const TRIES: usize = 100;

/// A directory of one image's layers, which this process has locked.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    /// The open directory, which holds the lock.
    directory: OwnedFd,
}

impl Disk {
    /// Makes a directory; `None` where this user has no place on a disk.
    pub fn new() -> Option<Self> {
        let place = place()?;
        make(&place).ok()?;
        if is_memory(&place) {
            return None;
        }
        (0..TRIES).find_map(|number| {
            let path = place.join(format!("{}.{number}", getpid().as_raw_nonzero()));
            DirBuilder::new().mode(0o700).create(&path).ok()?;
            // Until it is locked, another process may take it for one that a killed process left.
            Self::lock(path).ok().flatten()
        })
    }

    /// Returns the budget for what is unpacked there.
    ///
    /// # Errors
    /// Those of fstatvfs(2).
    pub fn budget(&self) -> Result<UnpackBudget, Errno> {
        let place = self.path.parent().unwrap_or(&self.path);
        Ok(UnpackBudget::of_disk(place, &fstatvfs(&self.directory)?))
    }

    /// Makes a file without a name. The kernel removes it when its last descriptor is closed.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn file(&self) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        match openat(&self.directory, ".", flags, mode) {
            Ok(file) => return Ok(file.into()),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
        const NAME: &str = "archive";
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(&self.directory, NAME, flags, mode)?;
        unlinkat(&self.directory, NAME, AtFlags::empty())?;
        Ok(file.into())
    }

    /// Opens the directory again, in the mount namespace that this process is in now.
    ///
    /// # Errors
    /// The directory no longer exists.
    pub fn open(&self) -> Result<OwnedFd, Errno> {
        let opened = open_directory(CWD, &self.path)?;
        match inode(&fstat(&opened)?) == inode(&fstat(&self.directory)?) {
            true => Ok(opened),
            false => Err(Errno::NOENT),
        }
    }

    /// Locks a directory; `None` where another process holds the lock, or has removed the directory.
    fn lock(path: PathBuf) -> Result<Option<Self>, Errno> {
        let directory = open_directory(CWD, &path)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            other => other?,
        }
        let own = inode(&fstat(&directory)?);
        let is_there = stat(&path).is_ok_and(|found| inode(&found) == own);
        Ok(is_there.then_some(Self { path, directory }))
    }

    /// Removes the directory with all files in it.
    fn remove(&self) -> Result<(), Errno> {
        clear(&self.directory)?;
        unlinkat(CWD, &self.path, AtFlags::REMOVEDIR)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The next command tries again to remove what is left.
        let _ = self.remove();
    }
}

/// Removes the directories that killed processes left.
///
/// # Errors
/// A directory cannot be removed.
pub fn sweep() -> io::Result<()> {
    let Some(place) = place().filter(|place| check(place).is_ok()) else {
        return Ok(());
    };
    let entries = fs::read_dir(&place).into_iter().flatten().flatten();
    let left = entries.filter_map(|entry| Disk::lock(entry.path()).ok().flatten());
    // The files of an ordinary user's layers can belong to other ids of the user namespace. Only that namespace's root
    // may remove them.
    let left: Vec<Disk> = left.filter(|disk| disk.remove().is_err()).collect();
    match left.first() {
        None => Ok(()),
        Some(_) if !geteuid().is_root() && remove_as_root_inside(&left)? => Ok(()),
        Some(disk) => Ok(disk.remove()?),
    }
}

/// Removes the directories in a process that is root in a user namespace. Returns whether it could remove all.
fn remove_as_root_inside(left: &[Disk]) -> io::Result<bool> {
    let Side::Parent(remover) = fork()? else {
        let removed = rootless::enter().is_ok() && left.iter().all(|disk| disk.remove().is_ok());
        exit(i32::from(!removed));
    };
    let ended = waitpid(Some(remover), WaitOptions::empty())?;
    Ok(ended.is_some_and(|(_, status)| status.exit_status() == Some(0)))
}

/// Returns where the caller's directories are. The path is the same before and after the caller enters a user
/// namespace.
fn place() -> Option<PathBuf> {
    if geteuid().is_root() && !is_in_user_namespace() {
        return Some(OF_ROOT.into());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    Some(home.filter(|home| home.is_absolute())?.join(OF_OTHERS))
}

fn make(place: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(place)?;
    check(place)
}

/// Checks that only this user can write to it. The agent removes what it finds there, and containers execute what is
/// unpacked there.
fn check(place: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(place)?;
    let own = found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0;
    match found.is_dir() && own {
        true => Ok(()),
        false => Err(Errno::PERM.into()),
    }
}

const fn inode(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

fn is_memory(place: &Path) -> bool {
    statfs(place).is_ok_and(|it| MEMORY.contains(&it.f_type))
}

fn open_directory(below: impl AsFd, path: impl Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(below, path, flags, Mode::empty())
}

/// Removes all files in a directory, of any depth. A directory that is not empty is moved up to `top`, so that neither
/// descriptors nor stack grow with the depth.
fn clear(top: &OwnedFd) -> Result<(), Errno> {
    let mut moved = 0_u64;
    loop {
        let mut is_empty = true;
        for name in names(top)? {
            let name = name?;
            is_empty = false;
            if remove(top, &name)? {
                continue;
            }
            let directory = open_directory(top, &name)?;
            for inner in names(&directory)? {
                let inner = inner?;
                if !remove(&directory, &inner)? {
                    moved += 1;
                    renameat(&directory, &inner, top, format!("gone.{moved}"))?;
                }
            }
        }
        if is_empty {
            return Ok(());
        }
    }
}

/// Removes a file or an empty directory. Returns false for a directory that is not empty.
fn remove(parent: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(errno) => return Err(errno),
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deep_is_removed_too() {
        let directory = tempfile::tempdir().unwrap();
        let top = open_directory(CWD, directory.path()).unwrap();
        // This is deeper than the longest path, and than the limit of descriptors.
        let mut at = top.try_clone().unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "a", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&at, "empty", Mode::RWXU).unwrap();
            let flags = OFlags::CREATE | OFlags::WRONLY;
            openat(&at, "file", flags, Mode::RWXU).unwrap();
            at = open_directory(&at, "a").unwrap();
        }
        clear(&top).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
