//! Namespace calls, made by the program `nscall` (`tests/src/bin/nscall.rs`), which says what came of them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::agent::profile;
use crate::cgroup::Cgroup;

/// Where the program is: cargo builds it before the tests.
pub fn binary() -> PathBuf {
    profile().join("nscall")
}

/// `nscall WORDS` in a container.
pub fn nscall(cgroup: &Cgroup, words: &str) -> Command {
    let mut command = cgroup.command(binary());
    command.args(words.split(' '));
    command
}

/// Runs a command that ends with a call of `nscall` to its end: what it said.
///
/// # Panics
/// Where it did not get as far as the call.
pub fn outcome(command: &mut Command) -> Value {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.expect("a command can be run");
    assert!(output.status.success(), "{command:?}: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("nscall prints JSON")
}
