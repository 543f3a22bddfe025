//! What the tests of all classes share.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tests::agent::{binary, profile};
use tests::program::program;
use tests::rootfs::Rootfs;
use tests::slow::longer;

/// The program that attacks (`tests/src/bin/attack.rs`).
pub fn attack() -> PathBuf {
    profile().join("attack")
}

/// A root file system with the attacker in it.
pub fn rootfs() -> Rootfs {
    Rootfs::new(&[("attack", &attack())])
}

/// A name for a container that no other test has.
pub fn name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("guard-{}-{number}", std::process::id())
}

/// `agent run` of a command in `rootfs`, which ends before long.
pub fn run(rootfs: &Rootfs, flags: &[&str], command: &[&str]) -> Command {
    let mut call = limited();
    call.arg(binary())
        .args(["run", "--rm", "--name", &name(), "--rootfs"]);
    call.arg(rootfs.path()).args(flags).arg("--").args(command);
    call
}

/// A command of the agent that ends before long.
pub fn limited() -> Command {
    let mut call = Command::new(program("timeout"));
    let seconds = longer(Duration::from_secs(40)).as_secs();
    call.args(["--kill-after=5", &seconds.to_string()]);
    call
}

/// A script on the host, among mounts of its own: `$1` is the root file system, `$2` the directory outside of it, `$3`
/// the attacker.
pub fn careless(rootfs: &Rootfs, script: &str) -> Command {
    let mut call = Command::new(program("unshare"));
    call.args(["--mount", "--propagation", "private", "--pid", "--fork"]);
    call.args(["sh", "-euc", script, "sh"]);
    call.arg(rootfs.path()).arg(rootfs.outside()).arg(attack());
    call
}

/// All that a command said, on both channels, after it has ended.
pub fn said(call: &mut Command) -> String {
    let Output { stdout, stderr, .. } = call.output().expect("a program can be run");
    let text = [stdout, stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Says that an attack works where nobody is on guard.
pub fn works_unguarded(attack: &str) {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    println!("{attack}: works unguarded on Linux {release}");
}
