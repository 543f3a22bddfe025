//! The contract between the BPF programs and the agent: records, counters, the kernel fields that
//! the programs read, and the names of maps and programs. Both sides compile this file; it has no
//! dependencies and no code that runs in the kernel.

#![warn(missing_docs, unreachable_pub)]
#![no_std]

mod fields;
mod names;
mod records;

pub use fields::*;
pub use names::*;
pub use records::*;
