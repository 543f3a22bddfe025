//! The BPF programs in the kernel: how they are loaded and attached, their rings and counters, and the events of their records.
//!
//! [`kernel::load`] loads them, [`kernel::Ready::attach`] attaches them, [`decode::decode`] makes an event of a record.
//!
//! This crate may not know containers.

#![warn(missing_docs, unreachable_pub)]

pub mod decode;
pub mod kernel;
