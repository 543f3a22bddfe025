//! See, run and prove containers on a Linux host. ARCHITECTURE.md has the picture.
//!
//! The modules stand in the order of the way of an event: arrows between them run down the list. Rooms that are crates of
//! their own go by their names here.

pub use agent_host as host;
pub use agent_host::{faults, owner, regular};
pub use agent_limits::{limit, limits};
pub use agent_model::{clock, event, lock, text, units};
pub use agent_runtime as runtime;
pub use agent_sys as sys;
pub use agent_tracer::kernel;

pub mod said;

pub mod container;

pub mod engine;

pub mod intent;

pub mod witness;

pub mod pipeline;

pub mod metrics;
pub mod watch;

pub mod inventory;

pub mod verify;

pub mod server;

pub mod commands;
