//! Limits: what the files of a cgroup are to hold, what it and those above it hold, and where that differs.
//!
//! [`limit`] is pure. [`limits`] reads, by the readers of `agent-host`. Nothing here writes to a cgroup.

pub mod limit;
pub mod limits;
