//! `agent verify`: whether limits hold, by the kernel's own numbers.
//!
//! Evidence goes one way: claim (what was intended) → chain (what files hold, the cgroup's and those above) → run (what
//! the kernel counted meanwhile) → judge (pure: one verdict and its reason for each claim) → report.

pub mod caller;
pub mod claim;
mod error;
pub mod existing;
pub mod judge;
pub mod launched;
pub mod lines;
pub mod members;
pub mod peaks;
pub mod report;
pub mod run;
pub mod sample;
pub mod suite;
pub mod supervised;
pub mod trace;
pub mod unread;
pub mod weights;

pub use error::Error;
