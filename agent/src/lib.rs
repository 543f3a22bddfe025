//! The program `agent`: observes and runs containers on a Linux host, and verifies their limits. ARCHITECTURE.md
//! describes the parts.
//!
//! This crate has the subcommands (arguments and wiring) and the HTTP server. Other crates have what these call.

#![warn(missing_docs, unreachable_pub)]

pub mod commands;
mod server;

#[cfg(feature = "fuzz")]
pub use server::fuzz::requests as fuzz_requests;
