//! `cargo xtask deny`: which crates, licences and sources the workspace depends on, checked against deny.toml.

use anyhow::Result;

use crate::command::{self, cargo};
use crate::setup;

/// Checks everything that deny.toml names. Advisories are left out: their database needs the network.
pub fn run() -> Result<()> {
    setup::for_deny()?;
    let mut deny = cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"])?;
    command::run(&mut deny)
}
