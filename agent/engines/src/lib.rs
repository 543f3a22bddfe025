//! What engines report of their containers: names, images and labels ([`docker`]), intended limits ([`intent`]), and whether a
//! cgroup belongs to the container that its path claims ([`witness`]). `agent run` is one of the engines.
//!
//! [`docker::follow`] follows docker's events, [`intent::Intent`] is a container's intended limits, and
//! [`witness::Records`] confirms claims. Functions of this crate read files, so no caller may hold the registry's lock.

#![warn(missing_docs, unreachable_pub)]

pub mod docker;
pub mod intent;
pub mod units;
pub mod witness;
