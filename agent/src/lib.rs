//! See, run and prove containers on a Linux host. ARCHITECTURE.md has the picture.
//!
//! The modules stand in the order of the way of an event: arrows between them run down the list.

pub mod server;

pub mod commands;
