//! Trees of files for tests.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::{fs, io};

use tempfile::TempDir;

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
