//! The directory in /tmp of a user who has no runtime directory.

use std::fs::{self, DirBuilder, Metadata};
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::process::Uid;

/// Others may write there, and nobody may rename or remove what is another's.
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;

/// `/tmp/agent-UID`. Where another user has made that, it is one with an ending that nobody can guess, which is made at
/// once: all commands of this user find the same.
pub fn directory(parent: &Path, user: Uid) -> PathBuf {
    let usual = parent.join(format!("agent-{}", user.as_raw()));
    match fs::symlink_metadata(&usual) {
        Ok(found) if !is_own(&found) => {}
        _ => return usual,
    }
    if let Some(path) = other(parent, user) {
        return path;
    }
    let ending = RandomState::new().hash_one(0_u8);
    let path = parent.join(format!("agent-{}.{ending:016x}", user.as_raw()));
    // Where it fails, the claim of a name in it says why.
    let _ = DirBuilder::new().mode(0o700).create(&path);
    match other(parent, user) {
        // Another command of this user was first.
        Some(first) if first != path => {
            let _ = fs::remove_dir(&path);
            first
        }
        _ => path,
    }
}

/// The first of this user's directories with an ending.
fn other(parent: &Path, user: Uid) -> Option<PathBuf> {
    let beginning = format!("agent-{}.", user.as_raw());
    let entries = fs::read_dir(parent).ok()?.flatten();
    let named = entries.filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().starts_with(beginning.as_bytes())
    });
    let paths = named.map(|entry| entry.path());
    let own = paths.filter(|path| fs::symlink_metadata(path).is_ok_and(|found| is_own(&found)));
    own.min()
}

/// Whether it is a directory of this user's that nobody else may write to.
pub fn is_own(found: &Metadata) -> bool {
    found.is_dir()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.mode() & OTHERS_WRITE == 0
}

/// Whether what this user makes in it stays this user's: it is the user's own or root's, and others may not rename in it.
pub fn is_safe_above(found: &Metadata) -> bool {
    let own = [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
    found.is_dir() && own && (found.mode() & OTHERS_WRITE == 0 || found.mode() & STICKY != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_planted_directory_locks_nobody_out() {
        let parent = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid();
        let usual = parent.path().join(format!("agent-{}", user.as_raw()));
        assert_eq!(directory(parent.path(), user), usual);
        // Others may write to it: as good as another's.
        for plant in [
            |path: &Path| {
                fs::create_dir(path).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
            },
            |path: &Path| {
                fs::remove_dir(path).unwrap();
                std::os::unix::fs::symlink("/", path).unwrap();
            },
        ] {
            plant(&usual);
            let own = directory(parent.path(), user);
            assert_ne!(own, usual);
            assert!(is_own(&fs::symlink_metadata(&own).unwrap()));
            assert_eq!(directory(parent.path(), user), own);
        }
    }
}
