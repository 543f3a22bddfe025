//! How much an image may be: it is unpacked into memory, and nobody has vouched for it.

use rustix::system::sysinfo;

/// Bytes of an image, unpacked, on any machine.
const MOST_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// Files and directories, of all layers together.
const MOST_ENTRIES: u32 = 1_000_000;

/// What is left of it.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: u64,
    entries: u32,
    whole: u64,
}

impl Budget {
    /// Half of this machine's memory, up to a limit.
    pub fn of_machine() -> Self {
        let memory = sysinfo();
        let memory = memory.totalram.saturating_mul(u64::from(memory.mem_unit));
        Self::new((memory / 2).min(MOST_BYTES))
    }

    pub fn new(bytes: u64) -> Self {
        Self {
            bytes,
            entries: MOST_ENTRIES,
            whole: bytes,
        }
    }

    /// All bytes that there were at first.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// Takes one entry with this many bytes.
    ///
    /// # Errors
    /// That is more than is left.
    pub fn entry(&mut self, bytes: u64) -> Result<(), String> {
        let entries = self.entries.checked_sub(1);
        self.entries = entries.ok_or_else(|| format!("more than {MOST_ENTRIES} entries"))?;
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| too_large(self.whole))?;
        Ok(())
    }
}

/// What is said of what does not fit.
pub fn too_large(most: u64) -> String {
    format!(
        "larger than {} MiB unpacked, which is what it may have of this machine's memory",
        most / (1024 * 1024)
    )
}
