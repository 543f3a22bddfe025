//! See, run and prove containers on a Linux host. ARCHITECTURE.md has the picture.

pub mod container;
pub mod watch;

pub mod commands;
pub mod text;
pub mod units;
