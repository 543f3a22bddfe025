//! The one image: busybox and stress-ng of the host, for no registry can be asked.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::client::Client;
use crate::program::{self, program};

/// The image's name.
pub const IMAGE: &str = "local/stress";

/// The commands of busybox that there are.
const APPLETS: [&str; 7] = ["cat", "mkdir", "readlink", "sh", "sleep", "true", "unshare"];

/// Gives the engine the image, made in `rootfs`.
///
/// # Panics
/// Where a program is not installed, or the engine refuses.
pub fn import(client: &Client, rootfs: &Path) {
    fs::create_dir_all(rootfs.join("bin")).expect("a root file system");
    for name in ["busybox", "stress-ng"] {
        let from = program(name);
        for library in libraries(&from) {
            copy(&library, &inside(rootfs, &library));
        }
        copy(&from, &rootfs.join("bin").join(name));
    }
    for applet in APPLETS {
        symlink("busybox", rootfs.join("bin").join(applet)).expect("a link");
    }
    let mut tar = Command::new(program("tar"))
        .arg("-C")
        .arg(rootfs)
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar can be run");
    let archive = tar.stdout.take().expect("a pipe");
    let imported = client
        .command(&["import", "-", IMAGE])
        .stdin(archive)
        .output()
        .expect("docker can be run");
    let archived = tar.wait().expect("the end of tar");
    assert!(
        archived.success() && imported.status.success(),
        "{imported:?}"
    );
}

/// The libraries that a program is linked with; none where it is static. It is asked for once.
pub(crate) fn libraries(of: &Path) -> Vec<PathBuf> {
    static KNOWN: Mutex<BTreeMap<PathBuf, Vec<PathBuf>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known
        .entry(of.to_owned())
        .or_insert_with(|| linked(of))
        .clone()
}

fn linked(of: &Path) -> Vec<PathBuf> {
    let output = Command::new(program("ldd")).arg(of).output();
    let output = output.expect("ldd can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    // `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)`.
    let paths = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(PathBuf::from).collect()
}

pub(crate) fn inside(rootfs: &Path, path: &Path) -> PathBuf {
    rootfs.join(path.strip_prefix("/").unwrap_or(path))
}

pub(crate) fn copy(from: &Path, to: &Path) {
    let directory = to.parent().expect("a file is in a directory");
    fs::create_dir_all(directory).expect("a directory of the root file system");
    program::copy(from, to);
}
