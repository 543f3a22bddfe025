//! Checks the owner of a file or directory, before its content is trusted or a file is put there.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

const OTHERS_WRITE: u32 = 0o022;
/// The sticky bit: others may write there, and nobody may rename or remove another user's file.
const STICKY: u32 = 0o1000;

/// A user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub u32);

impl Owner {
    /// The user of this process.
    pub fn caller() -> Self {
        Self(rustix::process::geteuid().as_raw())
    }

    /// Whether the file is this user's.
    pub fn has(self, found: &Metadata) -> bool {
        found.uid() == self.0
    }

    /// Whether the file is this user's, and nobody else may write to it.
    pub fn alone_has(self, found: &Metadata) -> bool {
        self.has(found) && found.mode() & OTHERS_WRITE == 0
    }

    /// Whether the file is a directory of this user's that nobody else may write to.
    pub fn alone_has_directory(self, found: &Metadata) -> bool {
        found.is_dir() && self.alone_has(found)
    }

    /// Whether the file at `path` is a directory of this user's that nobody else may write to, and not a link.
    pub fn alone_has_directory_at(self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|found| self.alone_has_directory(&found))
    }

    /// Whether a file that this user makes in the directory stays this user's: the directory is the user's own or
    /// root's, and others may not rename files in it.
    pub fn is_safe_in(self, found: &Metadata) -> bool {
        let own = self.has(found) || Self(0).has(found);
        own && keeps_apart(found)
    }

    /// As [`Owner::is_safe_in`], but the directory must be the user's own.
    pub fn is_safe_in_own(self, found: &Metadata) -> bool {
        self.has(found) && keeps_apart(found)
    }

    /// Opens a directory that is this user's, that nobody else may write to, and that is not a link. The directories
    /// above it are not checked: root chose them.
    ///
    /// # Errors
    /// The directory is another user's, or others may write to it; those of open(2).
    pub fn open_directory(self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        if self.alone_has(&directory.metadata()?) {
            return Ok(directory);
        }
        let why =
            "not a directory of this user's that nobody else may write to (chown, chmod go-w)";
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    }
}

fn keeps_apart(found: &Metadata) -> bool {
    found.is_dir() && (found.mode() & OTHERS_WRITE == 0 || found.mode() & STICKY != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn who_else_may_write_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::create_dir(&path).unwrap();
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        let (own, other) = (Owner::caller(), Owner(Owner::caller().0 + 1));
        for (mode, alone, safe) in [
            (0o700, true, true),
            (0o755, true, true),
            (0o775, false, false),
            (0o777, false, false),
            (0o1777, false, true),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let found = fs::metadata(&path).unwrap();
            assert_eq!(own.alone_has_directory(&found), alone, "{mode:o}");
            assert_eq!(own.open_directory(&path).is_ok(), alone, "{mode:o}");
            assert_eq!(own.is_safe_in(&found), safe, "{mode:o}");
            assert!(!other.alone_has(&found) && other.open_directory(&path).is_err());
            assert!(own.open_directory(&link).is_err());
            assert!(!own.alone_has_directory_at(&link));
        }
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(own.alone_has(&fs::metadata(&file).unwrap()));
        assert!(!own.is_safe_in(&fs::metadata(&file).unwrap()));
        assert!(own.open_directory(&file).is_err());
    }
}
