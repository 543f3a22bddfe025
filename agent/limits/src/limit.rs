//! What the files of a cgroup are to hold, what it and those above it hold, and where that differs. Pure: the runtime
//! writes, and whoever wants to know reads.

pub mod bound;
pub mod chain;
mod expected;

pub use expected::Expected;
