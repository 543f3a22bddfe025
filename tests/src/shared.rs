//! Mounts that other mount namespaces receive.

use std::path::Path;
use std::process::Command;

/// A directory with a mount of its own, whose mounts other namespaces can receive. Dropping it unmounts it.
#[derive(Debug)]
pub struct Shared(tempfile::TempDir);

impl Shared {
    /// Makes it, with a directory `below` in it.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let shared = Self(tempfile::tempdir().expect("a directory"));
        let path = shared.path();
        mount(&["-t", "tmpfs", "shared", &path.display().to_string()]);
        mount(&["--make-shared", &path.display().to_string()]);
        std::fs::create_dir(path.join("below")).expect("a directory");
        shared
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .args(["-R", "-l"])
            .arg(self.path())
            .status();
    }
}

/// Calls mount(8).
///
/// # Panics
/// Where it fails.
pub fn mount(arguments: &[&str]) {
    let status = Command::new("mount").args(arguments).status();
    assert!(status.expect("mount can be run").success(), "{arguments:?}");
}
