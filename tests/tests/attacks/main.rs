//! The table of attacks (docs/security.md): each works without its guard, and fails against the program as it is.
//!
//! A file has the attacks of one kind, and one test that carries them out.

mod entry;
mod identity;
mod lookup;
mod streams;
