//! The live stream of events.

pub mod filter;
pub mod kind;
pub mod query;
pub mod record;
pub mod value;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod schema;
