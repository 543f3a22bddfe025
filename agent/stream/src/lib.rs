//! The live stream of events.

#![warn(missing_docs, unreachable_pub)]

pub mod argv;
pub mod client;
pub mod describe;
pub mod details;
pub mod stream_event;
pub mod filter;
pub mod human;
pub mod kind;
mod lines;
pub mod output;
pub mod query;
mod repeated;
pub mod socket;
pub mod source;
pub mod streams;
pub mod value;
mod writer;

#[cfg(any(test, feature = "samples"))]
pub mod samples;
#[cfg(test)]
mod schema;
