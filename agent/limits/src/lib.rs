//! The limits of cgroups: the value that the files of a cgroup should hold, the values that the cgroup and its
//! ancestors hold, and the difference between them.
//!
//! [`limit`] compares values and does no I/O. [`limits`] reads the files through `agent-host`. No function of this
//! crate writes to a cgroup.

pub mod limit;
pub mod limits;
