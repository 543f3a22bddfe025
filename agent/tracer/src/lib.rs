//! The BPF programs in the kernel: how they are loaded and attached, their rings and counters, and what their records say.
//!
//! [`kernel::load`] loads them, [`kernel::Ready::attach`] attaches them, [`decode::decode`] makes an event of a record.
//! Nothing here knows a container.

#![warn(missing_docs, unreachable_pub)]

pub mod decode;
pub mod kernel;
