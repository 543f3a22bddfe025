//! See, run and prove containers on a Linux host. ARCHITECTURE.md has the picture.
//!
//! This crate holds the subcommands (arguments and wiring) and the HTTP server. Other crates hold what they call.

#![warn(missing_docs, unreachable_pub)]

pub mod commands;
mod server;

#[cfg(feature = "fuzz")]
pub use server::fuzz::requests as fuzz_requests;
