//! Supervisors of containers that a verifier observes before they run, while they run, and before they are removed.
//!
//! A supervisor is a copy of this process. It waits for the verifier's first answer before it launches the container
//! ([`super::observer`]). When the verifier has gone, the supervisor kills the container and removes it.

use std::os::unix::net::UnixStream;

use agent_host::rootless;
use agent_model::limit::Bounds;
use agent_sys::fork::{Side, exit, fork, speak_on_errors};
use rustix::process::Pid;

use super::observer::Observer;
use super::{Error, contain, detach, settle};
use crate::cgroup::Ground;
use crate::order::Order;
use crate::state::Store;

/// The base of the containers' cgroups, and their supervisors. Where this process has moved itself to a cgroup of its
/// own, dropping the value reaps the supervisors and leaves that cgroup.
#[derive(Debug)]
pub struct Leaving {
    ground: Ground,
    supervisors: Vec<Pid>,
}

impl Leaving {
    /// Returns the limits of this process's cgroups, where the containers are below them too.
    pub fn bounds(&self) -> Option<&Bounds> {
        self.ground.bounds()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.ground.leaf().is_some() {
            for supervisor in self.supervisors.drain(..) {
                detach::reap(supervisor);
            }
            self.ground.leave();
        }
    }
}

/// Makes a supervisor for each container, which waits until the verifier tells it to launch. What the container writes
/// to its standard output goes to this process's standard error.
///
/// The calling process must have one thread.
///
/// # Errors
/// A supervisor cannot be made, or a container needs a cgroup and this user may make none.
pub fn hold(orders: Vec<Order>) -> Result<(Vec<UnixStream>, Leaving), Error> {
    let mut held = Vec::new();
    let mut leaving = Leaving {
        ground: settle(&orders)?,
        supervisors: Vec::new(),
    };
    for order in orders {
        let (ours, theirs) = UnixStream::pair().map_err(Error::Detach)?;
        match fork().map_err(Error::Detach)? {
            Side::Parent(supervisor) => {
                held.push(ours);
                leaving.supervisors.push(supervisor);
            }
            Side::Child => {
                // With these descriptors open, this supervisor would keep the others from noticing that the verifier
                // has gone.
                drop((ours, held));
                let status = supervise(order, &leaving.ground, theirs);
                exit(i32::from(status))
            }
        }
    }
    Ok((held, leaving))
}

fn supervise(order: Order, ground: &Ground, verifier: UnixStream) -> u8 {
    let Ok(mut observer) = Observer::verifier(verifier) else {
        return contain::FAILED;
    };
    if !observer.wait() || speak_on_errors().is_err() {
        return 0;
    }
    let store = Store::of_user();
    let ended = match rootless::enter() {
        Err(error) => Err(error.into()),
        Ok(note) => {
            let notes = note.into_iter().chain(ground.note());
            notes.for_each(|note| observer.note(&note));
            contain::contain(order, &store, ground, None, &mut observer)
        }
    };
    ground.leave();
    ended.unwrap_or_else(|error| {
        observer.failed(&error);
        error.status()
    })
}
