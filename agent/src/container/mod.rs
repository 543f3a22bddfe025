//! Which container a cgroup belongs to.

pub mod path;
