//! Storms of short processes, made by the program `storm` (`tests/src/bin/storm.rs`).

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::agent::profile;
use crate::cgroup::Cgroup;

/// Where the program is: cargo builds it before the tests.
pub fn binary() -> PathBuf {
    profile().join("storm")
}

/// `storm WORDS` in a container.
pub fn storm(cgroup: &Cgroup, words: &str) -> Command {
    let mut command = cgroup.command(binary());
    command.args(words.split(' '));
    command
}

/// Runs a storm to its end: how long it took.
///
/// # Panics
/// Where it fails.
pub fn run(command: &mut Command) -> Duration {
    let output = command.output().expect("storm can be run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    let said: Value = serde_json::from_slice(&output.stdout).expect("storm prints JSON");
    Duration::from_secs_f64(said["seconds"].as_f64().expect("a time"))
}
