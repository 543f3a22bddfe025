//! Remembers the paths of a layer in little memory, however long the paths are.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

/// A set of paths, each stored as a 64-bit hash. The hash has a random key, so that an archive cannot choose two paths
/// with the same hash.
#[derive(Debug, Default)]
pub(super) struct EntryNames {
    key: RandomState,
    held: HashSet<u64>,
}

impl EntryNames {
    /// Adds a path. Returns whether it is new.
    pub(super) fn insert(&mut self, path: &Path) -> bool {
        self.held.insert(self.number(path))
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.held.contains(&self.number(path))
    }

    fn number(&self, path: &Path) -> u64 {
        self.key.hash_one(path.as_os_str())
    }
}
