//! Programs that need root, for what they do with BPF, cgroups and mounts.

use anyhow::{Result, bail};

use crate::command::{find, path};

/// What to hand to `cargo run` and `cargo test` so that what they start is root while what they build stays the
/// user's: nothing when this is root, else a runner that goes through sudo.
pub fn runner() -> Result<Vec<String>> {
    if rustix::process::geteuid().is_root() {
        return Ok(vec![]);
    }
    let path = path()?;
    if find("sudo", &path).is_none() {
        bail!("this needs root: neither is this root, nor is there a sudo in PATH");
    }
    println!("not root: going through sudo");
    // sudo sets a PATH of its own, even where it keeps the rest of the environment.
    let path = format!("PATH={}", path.display());
    let runner = ["sudo", "--preserve-env", "env", &path];
    Ok(vec![
        "--config".to_owned(),
        format!("target.'cfg(unix)'.runner = {runner:?}"),
    ])
}
