//! `agent verify`: whether limits hold, by the kernel's own numbers.
//!
//! Evidence goes one way: claim (what was intended) → chain (what files hold, the cgroup's and those above) → run (what
//! the kernel counted meanwhile) → judge (pure: one verdict and its reason for each claim) → report.

#![warn(missing_docs, unreachable_pub)]

pub mod caller;
pub mod claim;
mod error;
pub mod existing;
mod judge;
pub mod launched;
pub mod lines;
mod members;
mod peaks;
pub mod report;
pub mod run;
mod sample;
pub mod suite;
mod supervised;
pub mod trace;
mod unread;
pub mod weights;

pub use error::Error;
