//! The live stream of events: its format, its readers, and its lines of text.
//!
//! [`describe::describe`] makes a [`stream_event::StreamEvent`] of a kernel event. [`streams::EventStreams`] queues it
//! for the readers whose [`filter::EventFilter`] matches it. [`output::run`] writes it to a pipe, a file or a terminal.
//! [`client`] reads the stream of a running `agent serve`.
//!
//! This crate may not read `/proc`, cgroup files or rings, and no reader of a stream may delay another.

#![warn(missing_docs, unreachable_pub)]

pub mod argv;
pub mod client;
pub mod describe;
pub mod filter;
pub mod human;
pub mod kind;
mod lines;
pub mod output;
pub mod query;
mod repeated;
pub mod socket;
pub mod stream_event;
pub mod streams;
pub mod value;

#[cfg(any(test, feature = "samples"))]
pub mod samples;
#[cfg(test)]
mod schema;
