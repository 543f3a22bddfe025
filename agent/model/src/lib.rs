//! What all rooms share: containers and their limits, typed events and their moments, text that is
//! safe to show, and numbers with units.
//!
//! Nothing here opens a file or asks another process. [`clock`] reads the kernel's clocks.

pub mod clock;
pub mod container;
pub mod event;
pub mod hierarchy;
pub mod limit;
pub mod lock;
pub mod names;
pub mod table;
pub mod text;
pub mod units;
pub mod warn_once;
