//! What engines say of their containers: names and images ([`docker`]), the limits that were intended ([`intent`]), and
//! whether a cgroup is the container's that its path claims ([`witness`]).
//!
//! Containers of `agent run` are one engine's among others: the runtime keeps their state.

#![warn(missing_docs, unreachable_pub)]

pub mod docker;
pub mod intent;
pub mod witness;
