//! The live stream of events.

pub mod record;
