//! Directories for what is read by its path.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

/// A new directory, in memory where that is possible.
///
/// # Panics
/// Where there can be none.
pub fn directory() -> TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

/// Calls `run` with an empty directory of this thread's, which `run` leaves as it likes.
pub fn with_directory(run: impl FnOnce(&Path)) {
    thread_local!(static DIRECTORY: TempDir = directory());
    DIRECTORY.with(|directory| {
        run(directory.path());
        emptied(directory.path());
    });
}

/// Removes what is in a directory, whatever its mode is. Links are not followed.
///
/// # Panics
/// Where something cannot be removed.
fn emptied(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("permissions");
            emptied(&path);
            fs::remove_dir(&path).expect("an empty directory");
        } else {
            fs::remove_file(&path).expect("a file");
        }
    }
}
