//! From order to end: the process that stays with a container.
//!
//! It is the one that launches it: the caller itself in the foreground, a copy of the caller for a detached container.
//! It alone changes the container's state, and removes all that there is of it. What it leaves when it is killed, the
//! next command of the agent removes ([`sweep`]).

mod clean;
mod contain;
mod detach;
mod end;
mod error;
pub mod exec;
mod flow;
pub mod held;
pub mod log;
mod relay;
mod signals;
mod stop;
mod streams;

use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

pub use clean::sweep;
pub use error::Error;
pub use stop::{remove, running, stop};

use super::cgroup::{self, Cgroup, Ground, Wanted};
use super::order::Order;
use super::rootless;
use super::state::Store;
use crate::host::hierarchy::Hierarchies;
use crate::host::system::page_size;
use crate::text::{self, note as say};
use detach::{Caller, Split};

/// Runs a container to its end, or, where the order says so, until it runs detached. The exit status is as docker's:
/// that of its command, or 128 and the number of the signal that it died of.
///
/// # Errors
/// Where it could not be started. [`Error::status`] says what to exit with.
pub fn run(order: Order) -> Result<u8, Error> {
    let store = Store::of_user();
    sweep(&store);
    let ground = settle(&order)?;
    ground.note().iter().for_each(|note| say(note));
    let ended = run_at(order, &store, &ground);
    ground.leave();
    ended
}

/// Where the container's cgroup will be.
///
/// # Errors
/// It needs one, and there is no place for it.
pub fn settle(order: &Order) -> Result<Ground, Error> {
    let hierarchies = Hierarchies::discover(Path::new("/")).map_err(cgroup::Error::from)?;
    let wanted = Wanted::of(&contain::resources(&order.spec), page_size())?;
    let path = contain::cgroup_path(order);
    Ok(Ground::settle(hierarchies, &path, wanted.first())?)
}

fn run_at(order: Order, store: &Store, ground: &Ground) -> Result<u8, Error> {
    if let Some(note) = rootless::enter()? {
        say(&note);
    }
    if !order.detach {
        return contain::contain(order, store, ground, &mut Told::Here);
    }
    let name = order.name.clone();
    let members: Vec<_> = order.members.values().map(AsFd::as_fd).collect();
    let split = detach::split(&members).map_err(Error::Detach)?;
    drop(members);
    match split {
        Split::Supervisor(mut caller) => {
            let mut told = Told::Caller(&mut caller);
            let ended = contain::contain(order, store, ground, &mut told);
            // Where the container has started, nobody hears it any more.
            if let Err(error) = &ended {
                caller.failed(error.status(), &text::error_line(error));
            }
            ended.or(Ok(0))
        }
        Split::Caller(heard) => {
            heard.notes.iter().for_each(|note| say(note));
            if !heard.started {
                // What a supervisor left that had to be killed.
                sweep(store);
            }
            match heard.failed {
                Some((status, why)) if !heard.started => Err(Error::Told { status, why }),
                _ if !heard.started => Err(Error::SupervisorKilled),
                _ => {
                    // docker prints what the container is called by. Whoever does not read it knows.
                    let _ = writeln!(std::io::stdout(), "{name}");
                    Ok(0)
                }
            }
        }
    }
}

/// Who is told how the start goes.
enum Told<'a> {
    /// Whoever reads standard error.
    Here,
    Caller(&'a mut Caller),
    /// Who looks at the container before it runs, and before it is removed.
    Holder(&'a mut held::Holder),
}

impl Told<'_> {
    fn note(&mut self, note: &str) {
        match self {
            Self::Here => say(note),
            Self::Caller(caller) => caller.note(note),
            Self::Holder(holder) => holder.note(note),
        }
    }

    /// The cgroup is made and limited, and what may be in it (on v2) does not run the command yet.
    fn limited(&mut self, cgroup: &Cgroup) {
        if let Self::Holder(holder) = self {
            holder.limited(cgroup);
        }
    }

    fn started(&mut self, pid: i32) {
        match self {
            Self::Here => {}
            Self::Caller(caller) => caller.started(),
            Self::Holder(holder) => holder.started(pid),
        }
    }

    /// All processes have ended, and the cgroup is still there.
    fn ended(&mut self, code: u8) {
        if let Self::Holder(holder) = self {
            holder.ended(code);
        }
    }

    /// What ends the container when it is let go.
    fn leash(&self) -> io::Result<Option<OwnedFd>> {
        match self {
            Self::Holder(holder) => holder.leash().map(Some),
            Self::Here | Self::Caller(_) => Ok(None),
        }
    }
}
