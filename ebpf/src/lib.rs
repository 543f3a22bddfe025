//! The contract between the BPF programs and the agent: the layout of records and map values, the kernel fields that
//! the programs read, and the names and bounds that both sides use. Both sides compile this library. It has no
//! dependencies.

#![warn(missing_docs, unreachable_pub)]
#![no_std]

mod fields;
mod names;
mod records;

pub use fields::*;
pub use names::*;
pub use records::*;
