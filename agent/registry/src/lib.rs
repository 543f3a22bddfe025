//! Which container a task belongs to: the grammar of cgroup paths, the registry of cgroups, and what it learns from events.
//!
//! [`path::identify`] parses a path, and [`registry::Registry`] holds the cgroups. [`location::TaskLocation`] is the
//! place of a task. [`claim::Claim`] is a container that a path names and that a record must confirm.
//!
//! This crate may not open a file or ask another process. It reads a clock only to date what it learns.

#![warn(missing_docs, unreachable_pub)]

pub mod claim;
pub mod learn;
pub mod life;
pub mod location;
pub mod path;
pub mod registry;
pub mod unit;
