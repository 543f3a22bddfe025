//! What all rooms share: text that is safe to show, and numbers with units.
//!
//! No input and no output: values in, values out.

pub mod clock;
pub mod event;
pub mod text;
pub mod units;
