//! Which container a task belongs to: the grammar of cgroup paths, the registry of cgroups, and what it learns from events.
//!
//! Nothing here opens a file or asks another process.

#![warn(missing_docs, unreachable_pub)]

pub mod claim;
pub mod learn;
pub mod life;
pub mod location;
pub mod path;
pub mod registry;
