//! Carries out a spec: from clone to exec.
//!
//! The caller goes through three states, and the new process waits for it between them:
//!
//! - [`launch`] clones it into its namespaces (and its v2 cgroup) and gives a [`Started`]: it mounts and prepares
//!   meanwhile. Now is the time to attach it to v1 cgroups, and to connect its network.
//! - [`Started::go`] lets it enter its cgroup namespace, drop what it must not have, and exec. It returns when the
//!   command runs, as a [`Running`], or with the step at which it failed.

mod error;

use std::os::fd::{BorrowedFd, OwnedFd};

use oci_spec::runtime::Process;
use rustix::process::Pid;

pub use error::Error;

use super::order::Order;
use super::seccomp;

/// What the command has as descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio {
    Files {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A terminal of the container's own, whose other side [`Running::terminal`] is.
    Terminal,
}

/// A first process that waits for [`Started::go`]. Dropped, it ends.
#[derive(Debug)]
pub struct Started {
    /// As the host numbers it.
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// The command runs.
#[derive(Debug)]
pub struct Running {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    /// The other side of the container's terminal, where it was to have one.
    pub terminal: Option<OwnedFd>,
}

/// Starts a container's first process.
///
/// `root` is a detached mount, which becomes the root; `cgroup` the v2 cgroup that it is born in. The calling process
/// has one thread.
///
/// # Errors
/// The order asks for what the kernel refuses, or what is not there.
pub fn launch(
    _order: &Order,
    _root: BorrowedFd<'_>,
    _cgroup: Option<BorrowedFd<'_>>,
    _stdio: Stdio,
    _filters: &[seccomp::Program],
) -> Result<Started, Error> {
    Err(Error::not_yet())
}

/// Starts one more process in a container, in all its namespaces and its root.
///
/// `container` is a pidfd of its first process.
///
/// # Errors
/// As of [`launch`].
pub fn enter(
    _container: BorrowedFd<'_>,
    _process: &Process,
    _cgroup: Option<BorrowedFd<'_>>,
    _stdio: Stdio,
    _filters: &[seccomp::Program],
) -> Result<Started, Error> {
    Err(Error::not_yet())
}

/// Sees to it that no container can write to this program through a `/proc/PID/exe`: runs it again from a read-only
/// mount that is in nobody's mount namespace, with the same arguments, unless it already does. To be called first of
/// all by whatever launches.
///
/// # Errors
/// The kernel refuses; without CAP_SYS_ADMIN.
pub fn protect_executable() -> Result<(), Error> {
    Ok(())
}

impl Started {
    /// Lets it go on to the command.
    ///
    /// # Errors
    /// What failed in it since the clone; its [`Error::status`] is docker's exit status for that. The process has then
    /// ended and been waited for.
    pub fn go(self) -> Result<Running, Error> {
        Err(Error::not_yet())
    }
}
