//! `agent run`: launches containers.
//!
//! An [`order::Order`] says what is wanted; its OCI `Spec` says all that OCI can say. Data flows one way: flags → order →
//! cgroup, root file system → launch → supervision. The process that launches has one thread, from its start to the
//! container's end.

pub mod cgroup;
pub mod launch;
pub mod order;
mod setting;
pub mod spec;
pub mod state;
pub mod supervise;
pub mod terminal;
