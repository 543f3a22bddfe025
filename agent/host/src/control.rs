//! Changes a cgroup in one hierarchy: makes it, writes to it, removes it. Reads and writes go through the directory's
//! descriptor, so that they reach that very cgroup, whatever happens to its path.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use agent_model::hierarchy::Version;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// The file with the processes of a cgroup, on v1 and v2.
pub const PROCESSES: &str = "cgroup.procs";

/// The file with the threads of a cgroup, on v1.
pub const TASKS: &str = "tasks";

/// The extended attribute that marks a cgroup of the agent. Only a privileged process may set it (xattr(7)).
const CLAIM: &str = "trusted.agent";

/// A size that most files of a cgroup fit in.
const BYTES: usize = 512;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A cgroup in one hierarchy.
#[derive(Debug)]
pub struct Control {
    pub version: Version,
    pub path: PathBuf,
    directory: OwnedFd,
}

impl Control {
    /// The cgroup whose directory is at `path`.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(version: Version, path: &Path) -> io::Result<Self> {
        let directory = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self {
            version,
            path: path.to_owned(),
            directory,
        })
    }

    /// Duplicates the value, with a descriptor of its own.
    ///
    /// # Errors
    /// No descriptor can be made.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Self {
            version: self.version,
            path: self.path.clone(),
            directory: self.directory.try_clone()?,
        })
    }

    /// Opens the cgroup `name` below this one, and creates it first where it does not exist. The bool is whether this
    /// call created it.
    ///
    /// # Errors
    /// Those of mkdir(2) and open(2).
    pub fn make(&self, name: &str) -> io::Result<(Self, bool)> {
        let made = match rustix::fs::mkdirat(&self.directory, name, Mode::from(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        Ok((self.below(name)?, made))
    }

    /// Opens the cgroup `name` below this one.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn below(&self, name: &str) -> io::Result<Self> {
        let directory = rustix::fs::openat(&self.directory, name, DIRECTORY, Mode::empty())?;
        Ok(Self {
            version: self.version,
            path: self.path.join(name),
            directory,
        })
    }

    /// Marks the cgroup as made by the agent, where this process may.
    pub fn claim(&self) {
        let flags = rustix::fs::XattrFlags::empty();
        // Without the mark, the agent does not remove the cgroup when it is empty.
        let _ = rustix::fs::fsetxattr(&self.directory, CLAIM, b"", flags);
    }

    /// Whether the cgroup has the mark of [`Control::claim`].
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        rustix::fs::fgetxattr(&self.directory, CLAIM, &mut [0_u8; 0][..]).is_ok()
    }

    /// Opens the cgroup `name` below this one. The name may be any that the kernel takes.
    fn below_name(&self, name: &OsStr) -> io::Result<Self> {
        let directory = rustix::fs::openat(&self.directory, name, DIRECTORY, Mode::empty())?;
        Ok(Self {
            version: self.version,
            path: self.path.join(name),
            directory,
        })
    }

    /// Opens the parent cgroup.
    fn above(&self) -> io::Result<Self> {
        let directory = rustix::fs::openat(&self.directory, c"..", DIRECTORY, Mode::empty())?;
        Ok(Self {
            version: self.version,
            path: self.path.parent().unwrap_or(&self.path).to_owned(),
            directory,
        })
    }

    /// The names of the child cgroups.
    ///
    /// # Errors
    /// Those of reading a directory.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        // A directory without subdirectories has two links (`kernfs_refresh_inode`, fs/kernfs/inode.c).
        if rustix::fs::fstat(&self.directory)?.st_nlink == 2 {
            return Ok(names);
        }
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let entry = match entry.map_err(io::Error::from) {
                // A removed cgroup has no children.
                Err(error) if is_none(&error) => return Ok(Vec::new()),
                entry => entry?,
            };
            let name = entry.file_name();
            if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
                names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
            }
        }
        Ok(names)
    }

    /// Visits this cgroup and those below it. `enter` is called with each cgroup before those below it, and returns
    /// whether the walk goes below it. `leave` is called with the parent of each and its name, after those below it. A
    /// container may make cgroups as wide and as deep as it likes, so only two descriptors are open at a time, and no
    /// path is looked up whole.
    ///
    /// # Errors
    /// Those of opening and reading the directories, and of `enter` and `leave`. A cgroup that is removed meanwhile is
    /// left out.
    pub fn walk(
        &self,
        enter: &mut dyn FnMut(&Self) -> io::Result<bool>,
        leave: &mut dyn FnMut(&Self, &OsStr) -> io::Result<()>,
    ) -> io::Result<()> {
        let children = |cgroup: &Self, goes_below: bool| match goes_below {
            true => cgroup.names(),
            false => Ok(Vec::new()),
        };
        let mut at = self.again()?;
        let mut way: Vec<OsString> = Vec::new();
        let mut waiting = vec![children(&at, enter(self)?)?];
        while let Some(names) = waiting.last_mut() {
            if let Some(name) = names.pop() {
                let child = match at.below_name(&name) {
                    Err(error) if is_none(&error) => continue,
                    child => child?,
                };
                waiting.push(children(&child, enter(&child)?)?);
                way.push(name);
                at = child;
            } else {
                waiting.pop();
                if let Some(name) = way.pop() {
                    at = at.above()?;
                    leave(&at, &name)?;
                }
            }
        }
        Ok(())
    }

    /// Removes the child cgroup of this name.
    ///
    /// # Errors
    /// Those of rmdir(2).
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        let name = CString::new(name.as_bytes())?;
        Ok(rustix::fs::unlinkat(
            &self.directory,
            &name,
            AtFlags::REMOVEDIR,
        )?)
    }

    /// Reads a file of the cgroup.
    ///
    /// # Errors
    /// Those of opening and reading the file.
    pub fn read(&self, file: &str) -> io::Result<String> {
        // One read suffices for most files. Through `take`, the standard library does not query the file's size, which
        // these files do not have.
        let mut text = String::with_capacity(BYTES);
        let file = self.file(file, OFlags::RDONLY)?;
        file.take(u64::MAX).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Writes to a file of the cgroup, in one call.
    ///
    /// # Errors
    /// Those of opening the file, and the kernel's error where it refuses the text.
    pub fn write(&self, file: &str, text: &str) -> io::Result<()> {
        self.file(file, OFlags::WRONLY)?.write_all(text.as_bytes())
    }

    /// Writes to a file of the cgroup, in one call, and reads the file back. The outer result is that of the write, the
    /// inner one that of the read.
    ///
    /// # Errors
    /// As of [`Control::write`], and those of the read.
    pub fn exchange(&self, file: &str, text: &str) -> io::Result<io::Result<String>> {
        let mut file = self.file(file, OFlags::RDWR)?;
        file.write_all(text.as_bytes())?;
        let mut held = String::with_capacity(BYTES);
        let read = file.rewind();
        let read = read.and_then(|()| file.take(u64::MAX).read_to_string(&mut held));
        Ok(read.map(|_| held))
    }

    /// Opens a file of the cgroup.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn file(&self, file: &str, flags: OFlags) -> io::Result<fs::File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.directory, file, flags, Mode::empty())?;
        Ok(file.into())
    }

    pub fn has(&self, file: &str) -> bool {
        rustix::fs::accessat(
            &self.directory,
            file,
            rustix::fs::Access::EXISTS,
            AtFlags::empty(),
        )
        .is_ok()
    }

    /// Whether this user may move processes into the cgroup and create cgroups below it.
    pub fn is_writable(&self) -> bool {
        let may = |path: &str| {
            let write = rustix::fs::Access::WRITE_OK;
            rustix::fs::accessat(&self.directory, path, write, AtFlags::EACCESS).is_ok()
        };
        may(".") && may(PROCESSES)
    }

    /// The pids of the processes in the cgroup. A process outside this process's pid namespace has the pid 0.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let text = match self.read(PROCESSES) {
            // A removed cgroup has no processes. Neither has a threaded cgroup, of which `cgroup.procs` cannot be read.
            Err(error) if is_none(&error) => return Ok(Vec::new()),
            text => text?,
        };
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

fn is_none(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NODEV | Errno::NOENT | Errno::OPNOTSUPP)
    )
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Returns how many processes are in the cgroup that has the file `file`. Returns 0 for v2's root and on v1, where a
/// cgroup's processes do not keep it from controlling the cgroups below.
pub fn occupants(file: &Path) -> usize {
    let directory = file.parent().unwrap_or(file);
    // v2's root has no such file (cgroup-v2.rst, "Core Interface Files").
    if !directory.join("cgroup.events").exists() {
        return 0;
    }
    let text = std::fs::read_to_string(directory.join(PROCESSES)).unwrap_or_default();
    text.lines().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_made_written_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let parent = Control::open(Version::V2, root.path()).unwrap();
        let (child, made) = parent.make("a").unwrap();
        assert!(made && !parent.make("a").unwrap().1);
        fs::write(child.path.join(PROCESSES), "").unwrap();
        child.write(PROCESSES, "7\n9\n").unwrap();
        assert_eq!(child.processes().unwrap(), [7, 9]);
        assert!(child.has(PROCESSES) && !child.has("b"));
        assert_eq!(parent.names().unwrap(), ["a"]);
        fs::remove_file(child.path.join(PROCESSES)).unwrap();
        assert!(child.processes().unwrap().is_empty());
        parent.remove("a".as_ref()).unwrap();
        assert!(parent.names().unwrap().is_empty());
    }

    #[test]
    fn what_is_deep_and_wide_is_walked_with_few_descriptors() {
        let root = tempfile::tempdir().unwrap();
        let top = Control::open(Version::V2, root.path()).unwrap();
        let wide: Vec<_> = (0..40).map(|number| format!("wide{number}")).collect();
        for name in &wide {
            top.make(name).unwrap();
        }
        let mut at = top.again().unwrap();
        for _ in 0..300 {
            at = at.make("deep").unwrap().0;
        }
        drop(at);
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let (mut entered, mut most, before) = (0, 0, open());
        top.walk(
            &mut |_| {
                entered += 1;
                most = most.max(open());
                Ok(true)
            },
            &mut |above, name| above.remove(name),
        )
        .unwrap();
        assert_eq!(entered, 341);
        // Other tests run beside this one.
        assert!(most < before + 100, "{before} {most}");
        assert!(top.names().unwrap().is_empty());
    }

    #[test]
    fn links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", root.path().join("link")).unwrap();
        let parent = Control::open(Version::V2, root.path()).unwrap();
        assert!(parent.make("link").is_err());
    }
}
