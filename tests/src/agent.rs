//! The program that is tested, as cargo builds it from this workspace.

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A call of the program.
pub fn agent(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments);
    command
}

/// Where a program is that was built already, for a machine without cargo.
const BUILT: &str = "AGENT_BINARY";

/// What only the program that is tested has: fault points, and guards that a test turns off.
const FEATURES: &str = "faults";

/// Where the program is. It is built on the first call, in the profile in which this test was.
///
/// # Panics
/// Where it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(built) = env::var_os(BUILT) {
            return built.into();
        }
        let profile = profile();
        build(&profile);
        profile.join("agent")
    })
}

/// The directory of what is built in the profile of this program: `target/debug`. A test is in `deps` there.
///
/// # Panics
/// Where this program is nowhere.
pub fn profile() -> PathBuf {
    let program = env::current_exe().expect("the path of this program");
    let mut directories = program.ancestors().skip(1);
    let profile = directories.find(|directory| !directory.ends_with("deps"));
    profile.expect("a program is in target/PROFILE").to_owned()
}

fn build(profile: &Path) {
    let profile = match profile.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args([
            "build",
            "--quiet",
            "--package",
            "agent",
            "--features",
            FEATURES,
            "--profile",
            profile,
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // What sudo runs as root builds as the user who called it, so that the files stay this user's.
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        build.uid(user).gid(group);
    }
    let status = build.status().expect("cargo can be run");
    assert!(status.success(), "`cargo build --package agent` failed");
}

fn id(variable: &str) -> Option<u32> {
    env::var(variable).ok()?.parse().ok()
}
