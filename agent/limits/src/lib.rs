//! Limits: which file of which controller holds each, what is intended, and what a cgroup and those above it have.
//!
//! [`limit`] is pure. [`limits`] reads, by the readers of `agent-host`. Nothing here writes to a cgroup.

pub mod limit;
pub mod limits;
