//! Which container a task belongs to: the grammar of cgroup paths, the registry of cgroups, and what it learns from events.
//!
//! [`path::identify`] reads a path, [`registry::Registry`] knows the cgroups, [`location::TaskLocation`] is where a task is,
//! and [`claim::Claim`] is a container that a path names and that a record has to confirm.
//!
//! This crate may not open a file, ask another process or read a clock but to date what it learns.

#![warn(missing_docs, unreachable_pub)]

pub mod claim;
pub mod learn;
pub mod life;
pub mod location;
pub mod path;
pub mod registry;
