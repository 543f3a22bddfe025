//! Starts a process in namespaces of other containers.
//!
//! An intermediate process joins the namespaces and clones the new process, as a sibling. The launcher does not join
//! them itself, because it could not leave a user namespace again.

use std::os::fd::{AsFd as _, BorrowedFd};

use agent_host::interrupts::Interrupts;
use agent_sys::launch::{Kin, Side, clone, enter, exit};
use rustix::io::Errno;

use super::channel::{self, Channel, ChildReport};
use super::plan::namespaces::Namespaces;
use super::wait::{self, KillGuard, Wait};
use super::{Error, refused};

const STEP: &str = "join";
const WHAT: &str = "the process that joins the namespaces";
const CLONE: u8 = u8::MAX;

/// Clones a process into the namespaces that the container joins and into its new ones.
pub(super) fn born(
    namespaces: &Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    interrupts: &mut dyn Interrupts,
) -> Result<Side, Error> {
    let failed = |errno| Error::step(STEP, "new process", errno);
    let (ours, theirs) = channel::pair().map_err(failed)?;
    match clone(0, None, Kin::Child).map_err(refused)? {
        Side::Child => match between(namespaces, cgroup, &theirs) {
            Side::Child => Ok(Side::Child),
            Side::Parent { pid, pidfd } => {
                let _ = theirs.give_birth(pid, pidfd.as_fd());
                exit(0)
            }
        },
        Side::Parent { pidfd, .. } => {
            drop(theirs);
            let between = KillGuard::new(pidfd);
            let descriptor = ours.descriptor().map_err(failed)?;
            Wait::new(interrupts, WHAT, wait::PATIENCE).until(descriptor, || {})?;
            let report = ours.hear();
            // The intermediate process has nothing more to do, and is killed.
            drop(between);
            match report.map_err(failed)? {
                ChildReport::Born { pid, pidfd } => Ok(Side::Parent { pid, pidfd }),
                ChildReport::Failed {
                    step: CLONE, errno, ..
                } => Err(refused(errno)),
                ChildReport::Failed { errno, subject, .. } => {
                    Err(Error::step(STEP, subject, errno))
                }
                _ => Err(failed(Errno::CHILD)),
            }
        }
    }
}

fn between(namespaces: &Namespaces, cgroup: Option<BorrowedFd<'_>>, channel: &Channel) -> Side {
    for join in &namespaces.joined {
        if let Err(errno) = enter(join.namespace.as_fd(), join.kinds) {
            channel.fail(0, errno, &join.subject);
            exit(1);
        }
    }
    let kinds = namespaces.cloned() as u32;
    match clone(u64::from(kinds), cgroup, Kin::Sibling) {
        Ok(side) => side,
        Err(errno) => {
            channel.fail(CLONE, errno, c"clone");
            exit(1)
        }
    }
}
