//! Network interfaces of a container.

use std::os::fd::BorrowedFd;

use rustix::process::Pid;

use super::order::Network;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("network: {0}")]
    Socket(std::io::Error),
}

/// Gives the network namespace of a container what its order wants, beyond the loopback interface, which the
/// container's first process brings up by itself ([`crate::sys::interface::loopback_up`]).
///
/// `pid` is the container's first process, not yet running its command, and `pidfd` the same.
///
/// # Errors
/// The kernel refuses, or the interface or address is taken.
pub fn connect(
    _network: &Network,
    _name: &str,
    _pid: Pid,
    _pidfd: BorrowedFd<'_>,
) -> Result<(), Error> {
    Ok(())
}

/// Removes what [`connect`] left on the host for the container called `name`: its interface, and bridges that the agent
/// made and nobody uses. Nothing there is no error, so that anyone may clean after anyone.
///
/// # Errors
/// The kernel refuses.
pub fn disconnect(_name: &str) -> Result<(), Error> {
    Ok(())
}
