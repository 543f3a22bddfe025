//! The memory with this process's arguments and environment, from which the kernel reads `/proc/PID/cmdline` and
//! `/proc/PID/environ`.

use std::ffi::CStr;
use std::io;

use rustix::io::Errno;

use super::threads;

/// The addresses of the strings that this program was executed with. They are on the stack that the process began with;
/// a fork has them at the same addresses.
#[derive(Clone, Copy, Debug)]
pub struct StartArea {
    start: usize,
    end: usize,
}

impl StartArea {
    /// The file in which the kernel reports the addresses.
    pub const FILE: &str = "/proc/self/stat";

    /// Reads the addresses of this process.
    ///
    /// # Errors
    /// There is no `/proc`, or the kernel hides the addresses.
    pub fn of_own() -> io::Result<Self> {
        Self::parse(&std::fs::read_to_string(Self::FILE)?)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Parses proc_pid_stat(5).
    fn parse(stat: &str) -> Option<Self> {
        /// Indexes of fields behind the name, which ends in the last parenthesis: `arg_start` is the file's 48th field,
        /// the first field behind the name its 3rd.
        const ARGUMENTS_START: usize = 48 - 3;
        const ENVIRONMENT_END: usize = 51 - 3;
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<usize>().ok();
        let area = Self {
            start: number(ARGUMENTS_START)?,
            end: number(ENVIRONMENT_END)?,
        };
        (area.start != 0 && area.start < area.end).then_some(area)
    }

    /// The first address. The frames of the stack that the process began with are below it.
    pub(super) const fn start(self) -> usize {
        self.start
    }

    /// Overwrites the arguments and environment with `name`, cut to fit, and zeros. The standard library then finds
    /// empty strings behind the name.
    ///
    /// # Errors
    /// EBUSY if there are other threads, which might be reading the strings.
    pub fn wipe(self, name: &CStr) -> Result<(), Errno> {
        threads::expect_one()?;
        let length = self.end - self.start;
        let name = name.to_bytes();
        // SAFETY: the kernel reports that this memory, on the stack that the process began with, holds those strings
        // and nothing else. The standard library has pointers to them, but returns copies, and no other thread runs.
        // Only the area is written, and its last byte stays a NUL, so every string still ends in the area.
        unsafe {
            let start = std::ptr::with_exposed_provenance_mut::<u8>(self.start);
            std::ptr::write_bytes(start, 0, length);
            std::ptr::copy_nonoverlapping(name.as_ptr(), start, name.len().min(length - 1));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_where_this_process_was_started() {
        let area = StartArea::of_own().unwrap();
        let all = std::fs::read("/proc/self/cmdline").unwrap().len()
            + std::fs::read("/proc/self/environ").unwrap().len();
        assert!(area.end - area.start >= all);
        for text in ["", "7 (x) S", "7 (a ) b) S 1 2"] {
            assert!(StartArea::parse(text).is_none(), "{text}");
        }
    }
}
