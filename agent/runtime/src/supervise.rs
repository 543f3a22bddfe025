//! Supervises a container from its order to its end.
//!
//! The supervisor is the process that launches: the caller itself in the foreground, a copy of it for a detached
//! container. Only the supervisor changes the container's state, and it removes everything that it made. When it is
//! killed, the next command of the agent removes the rest ([`sweep`]).

mod clean;
mod contain;
mod detach;
mod end;
mod error;
pub mod exec;
mod flow;
mod killing;
pub mod log;
pub mod observer;
mod relay;
mod signals;
mod stop;
mod streams;
pub mod verifier;

use std::io::Write as _;
use std::path::Path;

use agent_host::hierarchy::Hierarchies;
use agent_host::rootless;
use agent_host::system::page_size;
use agent_model::text::note as say;
use clean::Rest;
pub use clean::sweep;
use detach::Split;
pub use error::Error;
use observer::Observer;
pub use stop::{remove, running, signal, stop};

use super::cgroup::{self, Ground, Wanted};
use super::order::Order;
use super::state::Store;

/// Runs a container to its end. Where the order says so, returns once the container runs detached. The exit status is
/// docker's: that of the command, or 128 plus the number of the signal that killed it.
///
/// # Errors
/// The container could not be started. [`Error::status`] is the exit status for the error.
pub fn run(order: Order) -> Result<u8, Error> {
    let store = Store::of_user();
    let rest = clean::end_abandoned(&store);
    let ground = settle(std::slice::from_ref(&order))?;
    ground.note().iter().for_each(|note| say(note));
    let ended = run_at(order, &store, &ground, rest);
    ground.leave();
    ended
}

/// Finds the cgroup below which the cgroups of all these containers will be, in each hierarchy.
///
/// # Errors
/// A container needs a cgroup, and this user may make none.
pub fn settle(orders: &[Order]) -> Result<Ground, Error> {
    let hierarchies = Hierarchies::discover(Path::new("/")).map_err(cgroup::Error::from)?;
    let mut limited = None;
    for order in orders {
        let wanted = Wanted::of(&contain::resources(&order.spec), page_size())?;
        limited = limited.or(wanted.first());
    }
    let paths: Vec<String> = orders.iter().map(contain::cgroup_path).collect();
    Ok(Ground::settle(hierarchies, &paths, limited)?)
}

fn run_at(order: Order, store: &Store, ground: &Ground, rest: Rest) -> Result<u8, Error> {
    if let Some(note) = rootless::enter()? {
        say(&note);
    }
    if !order.detach {
        return contain::contain(order, store, ground, Some(rest), &mut Observer::User);
    }
    let name = order.name.clone();
    match detach::split().map_err(Error::Detach)? {
        Split::Supervisor(mut caller) => {
            let ended = contain::contain(order, store, ground, Some(rest), &mut caller);
            // Where the container has started, the caller has left, and no one reads this.
            if let Err(error) = &ended {
                caller.failed(error);
            }
            ended.or(Ok(0))
        }
        Split::Caller(heard) => {
            heard.notes.iter().for_each(|note| say(note));
            if !heard.started {
                // A supervisor that had to be killed left its container behind.
                sweep(store);
            }
            match heard.failed {
                Some((status, why)) if !heard.started => Err(Error::Reported { status, why }),
                _ if !heard.started => Err(Error::SupervisorKilled),
                _ => {
                    // docker prints the container's id here. A failed write is ignored: a caller that closed its
                    // standard output does not want the name.
                    let _ = writeln!(std::io::stdout(), "{name}");
                    Ok(0)
                }
            }
        }
    }
}
