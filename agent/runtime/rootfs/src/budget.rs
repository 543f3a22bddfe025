//! Bounds what a root file system costs. An image is not trusted. So each length and count that it claims is taken from
//! one budget, before memory or disk is used for it.

use std::path::{Component, Path};

use agent_model::units::size;
use rustix::fs::StatVfs;
use rustix::system::sysinfo;

/// The most bytes of an unpacked root file system on any machine: in memory, and on disk.
const MOST_IN_MEMORY: u64 = 8 << 30;
const MOST_ON_DISK: u64 = 64 << 30;

/// The most entries of an archive and of all archives in it.
const MOST_ENTRIES: u32 = 1_000_000;

/// The most bytes of names that this process keeps in its own memory while it unpacks.
const MOST_KEPT: u64 = 16 << 20;

/// The most bytes of a path that the kernel accepts (`PATH_MAX`, without the NUL), and the most names in it.
pub(crate) const LONGEST_PATH: usize = 4095;
pub(crate) const MOST_NAMES: usize = 256;

/// The most names that are looked up one by one. That happens where an entry's path has links, or its directories do
/// not exist.
const MOST_STEPS: u64 = 8_000_000;

/// The bytes that an entry takes for its inode and names, and the size of the blocks that its content takes.
const ENTRY: u64 = 1024;
const BLOCK: u64 = 4096;

/// The bytes, entries and look-ups that are left for one unpacking.
#[derive(Clone, Debug)]
pub struct UnpackBudget {
    left: u64,
    whole: u64,
    /// A text for an error: what the bytes are a part of.
    of: String,
    entries: u32,
    steps: u64,
    kept: u64,
    is_spent: bool,
}

impl UnpackBudget {
    /// Returns a budget for memory: at most half of this machine's memory, and at most the container's `limit` (`-m`).
    /// With `or_disk`, where a disk can hold a larger image, it is a quarter of that. Most of the memory is then left
    /// for the container.
    pub fn of_memory(limit: Option<u64>, or_disk: bool) -> Self {
        let memory = sysinfo();
        let memory = memory.totalram.saturating_mul(u64::from(memory.mem_unit));
        let half = (memory / 2).min(MOST_IN_MEMORY);
        let (most, of) = match limit {
            Some(limit) if limit < half => (
                limit,
                "what -m allows, and no disk can hold it; give more with -m",
            ),
            _ => (half, "what it may have of this machine's memory"),
        };
        Self::new(if or_disk { most / 4 } else { most }, of)
    }

    /// Returns a budget for a disk: at most half of the space and of the inodes that are free there.
    pub fn of_disk(path: &Path, disk: &StatVfs) -> Self {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize) / 2;
        let of = format!("what it may have of the free space of {}", path.display());
        let mut budget = Self::new(free.min(MOST_ON_DISK), &of);
        // Some file systems do not count inodes, and report 0.
        if disk.f_files > 0 {
            let free = u32::try_from(disk.f_favail / 2).unwrap_or(u32::MAX);
            budget.entries = budget.entries.min(free);
        }
        budget
    }

    fn new(bytes: u64, of: &str) -> Self {
        Self {
            left: bytes,
            whole: bytes,
            of: of.to_owned(),
            entries: MOST_ENTRIES,
            steps: MOST_STEPS,
            kept: MOST_KEPT,
            is_spent: false,
        }
    }

    /// Whether more bytes were asked for than were left.
    pub const fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// Takes bytes for the content of a file.
    ///
    /// # Errors
    /// More is asked for than is left.
    pub fn bytes(&mut self, bytes: u64) -> Result<(), String> {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => {
                self.is_spent = true;
                return Err(self.too_large(bytes));
            }
        }
        Ok(())
    }

    /// Takes the space of a file or directory with this many bytes.
    ///
    /// # Errors
    /// More is asked for than is left.
    pub fn file(&mut self, bytes: u64) -> Result<(), String> {
        let blocks = bytes.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        self.bytes(blocks.saturating_add(ENTRY))
    }

    /// Takes an entry of an archive, before the entry is read.
    ///
    /// # Errors
    /// There are too many.
    pub fn entry(&mut self) -> Result<(), String> {
        let left = self.entries.checked_sub(1);
        self.entries = left.ok_or("more entries than there is room for (a million, or inodes)")?;
        Ok(())
    }

    /// Takes names that were looked up one by one.
    ///
    /// # Errors
    /// There are too many.
    pub fn steps(&mut self, steps: u64) -> Result<(), String> {
        let left = self.steps.checked_sub(steps);
        self.steps = left.ok_or("its paths and links lead through more than 8 million names")?;
        Ok(())
    }

    /// Takes memory of this process for a name of this many bytes.
    ///
    /// # Errors
    /// More is asked for than is left.
    pub fn keep(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.kept.checked_sub(bytes as u64);
        self.kept = left.ok_or_else(|| format!("more than {} of names", size(MOST_KEPT)))?;
        Ok(())
    }

    /// Gives back memory that [`Self::keep`] took.
    pub fn forget(&mut self, bytes: usize) {
        self.kept = self.kept.saturating_add(bytes as u64);
    }

    fn too_large(&self, more: u64) -> String {
        let spent = self.whole - self.left;
        format!(
            "larger than {} unpacked, which is {} (it has {} at least)",
            size(self.whole),
            self.of,
            size(spent.saturating_add(more))
        )
    }
}

/// Checks that the kernel accepts a path as long and as deep as this.
///
/// # Errors
/// The path is too long or too deep.
pub(crate) fn check_path(path: &Path) -> Result<(), String> {
    if path.as_os_str().len() > LONGEST_PATH {
        let length = path.as_os_str().len();
        return Err(format!(
            "a path of {length} bytes; wanted at most {LONGEST_PATH}"
        ));
    }
    let names = path
        .components()
        .filter(|it| matches!(it, Component::Normal(_)));
    match names.count() {
        ..=MOST_NAMES => Ok(()),
        names => Err(format!(
            "{names} nested directories; wanted at most {MOST_NAMES}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_spent_twice() {
        let mut budget = UnpackBudget::new(3 * BLOCK, "room");
        budget.bytes(BLOCK).unwrap();
        budget.file(1).unwrap();
        let error = budget.bytes(BLOCK).unwrap_err();
        assert_eq!(
            error,
            "larger than 12.0K unpacked, which is room (it has 13.0K at least)"
        );
        assert_eq!(budget.left, BLOCK - ENTRY);
        for bytes in [u64::MAX, u64::MAX - BLOCK, u64::MAX / 2] {
            assert!(budget.file(bytes).is_err());
        }
        budget.bytes(BLOCK - ENTRY).unwrap();
        assert!(budget.file(0).is_err());
    }

    #[test]
    fn entries_and_names_end() {
        let mut budget = UnpackBudget::new(0, "room");
        for _ in 0..MOST_ENTRIES {
            budget.entry().unwrap();
        }
        assert!(budget.entry().is_err());
        budget.keep(MOST_KEPT as usize).unwrap();
        assert!(budget.keep(1).is_err());
    }

    #[test]
    fn memory_is_not_more_than_the_container_may_have() {
        assert_eq!(UnpackBudget::of_memory(Some(1 << 20), false).left, 1 << 20);
        assert_eq!(UnpackBudget::of_memory(Some(1 << 20), true).left, 1 << 18);
        let all = UnpackBudget::of_memory(None, false).left;
        assert_eq!(UnpackBudget::of_memory(Some(u64::MAX), false).left, all);
    }

    #[test]
    fn paths_that_the_kernel_takes() {
        let deep = |names: usize| "a/".repeat(names);
        assert!(check_path(Path::new(&deep(MOST_NAMES))).is_ok());
        assert!(check_path(Path::new(&deep(MOST_NAMES + 1))).is_err());
        assert!(check_path(Path::new(&"a".repeat(LONGEST_PATH + 1))).is_err());
    }
}
