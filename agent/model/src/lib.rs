//! The types that all crates share: [`container::Container`], its labels and limits, the typed [`event::Event`],
//! [`clock::Moment`], text that is safe to show, tables, and numbers with units.
//!
//! This crate opens no file and asks no other process. [`clock`] reads the kernel's clocks.

#![warn(missing_docs, unreachable_pub)]

pub mod clock;
pub mod container;
pub mod event;
pub mod hierarchy;
pub mod labels;
pub mod limit;
pub mod lock;
pub mod names;
pub mod table;
pub mod text;
pub mod units;
pub mod warn_once;
