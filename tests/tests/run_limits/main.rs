//! The limits of `agent run`: each in its file, and what it does to who presses against it. On v1, v2 and both at once:
//! `cargo xtask vm` runs these tests in kernels that have v2.

mod drift;
mod effects;
mod files;
mod rootless;

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::cgroup::{Cgroup, directory};
use tests::run::Container;

/// A file of a container's cgroup: that of v1 where the controller is there, else that of v2.
fn file(container: &Container, controller: [&str; 2], name: [&str; 2]) -> PathBuf {
    let version = usize::from(!Cgroup::is_v1(controller[0]));
    let path = Path::new("/agent").join(&container.name);
    directory(controller[version], path).join(name[version])
}

/// What it holds, without the line's end.
fn text(path: &Path) -> String {
    let text = std::fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().to_owned()
}

/// What a command says, where it fails with this exit status.
fn refused(command: &mut Command, status: i32) -> String {
    let output = tests::run::output(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{said}");
    said
}
