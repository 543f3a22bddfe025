//! The cgroup of a container, in every hierarchy: made, limited, read back, killed, removed.

use std::os::fd::BorrowedFd;
use std::path::Path;

use oci_spec::runtime::LinuxResources;

mod error;

pub use error::Error;

/// The cgroup of a container: a directory in each hierarchy.
#[derive(Debug)]
pub struct Cgroup {}

/// What was left out of what was asked, for people to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(pub String);

impl Cgroup {
    /// Makes the cgroup `path`, as `/agent/NAME`, in every hierarchy that is mounted, with these limits, each of which is
    /// read back. `root` is where the host's tree is, `/`. With `swap_implied`, the limit of memory and swap together is
    /// left out where the kernel does not count swap. An ordinary user's is made below the cgroup that is delegated to
    /// them; see [`Cgroup::path`].
    ///
    /// Where it fails, nothing of it stays.
    ///
    /// # Errors
    /// The cgroup is there already; a controller is not to be had; the kernel refuses a limit, or keeps another.
    pub fn create(
        _root: &Path,
        _path: &str,
        _resources: &LinuxResources,
        _swap_implied: bool,
    ) -> Result<(Self, Vec<Note>), Error> {
        Ok((Self {}, Vec::new()))
    }

    /// The cgroup at `path`, in the hierarchies that have it; none where no hierarchy does.
    ///
    /// # Errors
    /// The hierarchies cannot be read.
    pub fn find(_path: &Path) -> Result<Option<Self>, Error> {
        Ok(None)
    }

    /// Its path in v2, else in the first hierarchy of v1: what [`Cgroup::find`] takes.
    pub fn path(&self) -> &str {
        "/"
    }

    /// Its directory in v2, for `CLONE_INTO_CGROUP`; none where v2 is not mounted.
    pub fn v2_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Moves a process into it in every hierarchy of v1: for one that was cloned into that of v2.
    ///
    /// # Errors
    /// The process has ended, or the kernel refuses.
    pub fn attach_v1(&self, _pid: i32) -> Result<(), Error> {
        Ok(())
    }

    /// Moves a process into it, in every hierarchy.
    ///
    /// # Errors
    /// As [`Cgroup::attach_v1`].
    pub fn attach(&self, _pid: i32) -> Result<(), Error> {
        Ok(())
    }

    /// Kills all that is in it and below it, and waits until nothing is.
    ///
    /// # Errors
    /// A process does not die.
    pub fn kill(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Removes it and those below it, and its parent `/agent` where that is empty now. What is gone already is fine.
    ///
    /// # Errors
    /// Something is still in it.
    pub fn remove(self) -> Result<(), Error> {
        Ok(())
    }
}
