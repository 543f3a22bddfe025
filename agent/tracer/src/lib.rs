//! Loads and attaches the BPF programs, reads their rings and counters, and decodes their records.
//!
//! [`kernel::load`] loads the programs, [`kernel::Ready::attach`] attaches them, and [`decode::decode`] makes an event
//! of a record.
//!
//! This crate may not know containers.

#![warn(missing_docs, unreachable_pub)]

pub mod decode;
pub mod kernel;
