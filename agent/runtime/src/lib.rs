//! Launches containers (`agent run`) and cleans up after them.
//!
//! An [`order::Order`] describes a container, and its OCI `Spec` holds everything that OCI can express. Data flows one
//! way: flags → order → cgroup, root file system → launch → supervision. The process that launches has one thread until
//! the container ends.

#![warn(missing_docs, unreachable_pub)]

pub mod cgroup;
pub mod launch;
pub mod order;
mod setting;
pub mod spec;
pub mod state;
pub mod supervise;
mod terminal;
