//! Trees of files for tests.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::{fs, io};

use agent_model::hierarchy::Version;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use tempfile::TempDir;

use crate::cgroup::Directory;
use crate::control::Control;

/// A directory that holds `files`, by path and content. A content of `-> TEXT` makes a symbolic
/// link to TEXT, and a path that ends with `/` a directory.
///
/// # Panics
/// The files cannot be made.
pub fn tree<Content: AsRef<[u8]>>(files: &[(&str, Content)]) -> TempDir {
    let root = tempfile::tempdir().expect("a temporary directory can be made");
    add(root.path(), files);
    root
}

/// Adds `files` to the tree at `root`, or replaces them.
///
/// # Panics
/// The files cannot be made.
pub fn add<Content: AsRef<[u8]>>(root: &Path, files: &[(&str, Content)]) {
    for (path, content) in files {
        make(&root.join(path), content.as_ref()).expect("a file of the tree can be made");
    }
}

/// The cgroup of v2 whose directory is at `path` in the tree.
pub fn directory(root: &TempDir, path: &str) -> Directory {
    Directory {
        version: Version::V2,
        path: root.path().join(path),
        meminfo: None,
    }
}

/// Calls `look` while `files` are in a cgroup so far below `cgroup` that its path is longer than any that the kernel
/// looks up.
///
/// # Panics
/// The cgroups cannot be made or removed.
pub fn deep(cgroup: &Directory, files: &[(&str, &str)], look: impl FnOnce()) {
    const LEVELS: usize = 3000;
    let top = Control::open(cgroup.version, &cgroup.path).expect("a cgroup");
    let mut lowest = top.again().expect("a descriptor");
    for _ in 0..LEVELS {
        lowest = lowest.make("n").expect("a cgroup below").0;
    }
    for (name, content) in files {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&lowest, *name, flags, Mode::RUSR).map(fs::File::from);
        let written = file
            .map_err(io::Error::from)
            .and_then(|mut it| it.write_all(content.as_bytes()));
        written.expect("a file of the cgroup below");
    }
    look();
    for (name, _) in files {
        unlinkat(&lowest, *name, AtFlags::empty()).expect("the file is there");
    }
    let removed = top.walk(&mut |_| Ok(true), &mut |above, name| above.remove(name));
    removed.expect("the cgroups are there");
}

fn make(path: &Path, content: &[u8]) -> io::Result<()> {
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return fs::create_dir_all(path);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match content.strip_prefix(b"-> ") {
        Some(link) => symlink(Path::new(OsStr::from_bytes(link)), path),
        None => fs::write(path, content),
    }
}
