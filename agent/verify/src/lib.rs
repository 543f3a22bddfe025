//! Judges whether limits hold, by the kernel's own numbers (`agent verify`).
//!
//! Evidence flows one way: claim (what was intended) → chain (what the files of the cgroup and its ancestors hold) →
//! run (what the kernel counted) → judge (pure: one verdict with its reason for each claim) → report.

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
