//! Root file systems of containers, made of programs of the host and the libraries that they need.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::docker::image::{copy, inside, libraries};
use crate::program::program;

/// The commands of busybox that there are.
const APPLETS: [&str; 8] = ["cat", "echo", "ls", "mkdir", "sh", "sleep", "true", "wget"];

/// A directory that is a root file system, and one beside it that is not in it. Both are gone with this.
#[derive(Debug)]
pub struct Rootfs {
    directory: TempDir,
}

impl Rootfs {
    /// With a busybox, and with these programs in `/bin`, all of them `NAME` whatever they were called.
    ///
    /// # Panics
    /// Where a program is not there.
    pub fn new(programs: &[(&str, &Path)]) -> Self {
        let rootfs = Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        // Other users look in, too.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(rootfs.directory.path(), open).expect("a mode");
        let root = rootfs.path();
        for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
            fs::create_dir_all(root.join(directory)).expect("a directory");
        }
        fs::create_dir(rootfs.outside()).expect("a directory");
        copy(&program("busybox"), &root.join("bin/busybox"));
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).expect("a link");
        }
        for (name, from) in programs {
            for library in libraries(from) {
                copy(&library, &inside(&root, &library));
            }
            copy(from, &root.join("bin").join(name));
        }
        rootfs
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// What no container should reach.
    pub fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    /// A file or directory of the root becomes a link, as a hostile image has it.
    ///
    /// # Panics
    /// Where that fails.
    pub fn link(&self, name: &str, target: impl AsRef<Path>) {
        let path = self.path().join(name);
        // It may be nothing yet, a directory, or a link as this one.
        let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        symlink(target, path).expect("a link");
    }
}
