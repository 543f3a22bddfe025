//! Trees of files for tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

/// A directory that holds `files`, by path and content. A content of `-> TEXT` makes a symbolic
/// link to TEXT, and a path that ends with `/` a directory.
pub fn tree<Content: AsRef<[u8]>>(files: &[(&str, Content)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    add(root.path(), files);
    root
}

/// Adds `files` to the tree at `root`, or replaces them.
pub fn add<Content: AsRef<[u8]>>(root: &Path, files: &[(&str, Content)]) {
    for (path, content) in files {
        let full = root.join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
            continue;
        }
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        match content.as_ref().strip_prefix(b"-> ") {
            Some(link) => symlink(str::from_utf8(link).unwrap(), full).unwrap(),
            None => fs::write(full, content).unwrap(),
        }
    }
}
