//! The live stream of events.

mod details;
pub mod filter;
pub mod human;
pub mod kind;
pub mod query;
pub mod record;
pub mod value;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod schema;
