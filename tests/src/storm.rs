//! Storms of processes, made by the program `storm` (`tests/src/bin/storm.rs`).

use std::path::PathBuf;
use std::process::Stdio;

use crate::agent::profile;
use crate::cgroup::Cgroup;

/// Where the program is: cargo builds it before the tests.
pub fn binary() -> PathBuf {
    profile().join("storm")
}

/// Runs `storm WORDS` in a container to its end.
///
/// # Panics
/// Where it does not end well.
pub fn storm(cgroup: &Cgroup, words: &str) {
    let mut command = cgroup.command(binary());
    let status = command
        .args(words.split(' '))
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("storm can be run").success(), "{words}");
}
