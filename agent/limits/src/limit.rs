//! Compares the intended value of a limit with the values in the files of a cgroup and of its ancestors. This module
//! does no I/O.

pub mod bound;
pub mod chain;
mod expected;

pub use expected::Expected;
