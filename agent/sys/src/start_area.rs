//! Where the kernel put the arguments and environment of this process, and shows them from.

use std::ffi::CStr;
use std::io;

use rustix::io::Errno;

use super::threads;

/// The strings that this process, or the one that it is a copy of, was started with: on the stack that it began with.
#[derive(Clone, Copy, Debug)]
pub struct StartArea {
    start: usize,
    end: usize,
}

impl StartArea {
    pub const FILE: &str = "/proc/self/stat";

    /// That of this process, as the kernel reports it.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn of_own() -> io::Result<Self> {
        Self::parse(&std::fs::read_to_string(Self::FILE)?)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// From proc_pid_stat(5).
    fn parse(stat: &str) -> Option<Self> {
        /// Fields after the name, which ends in the last parenthesis: `arg_start` is the file's 48th.
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

    /// Its first address: the stack that the process began with ends before it.
    pub(super) const fn start(self) -> usize {
        self.start
    }

    /// Overwrites the arguments and environment by `name`: from then on, the standard library finds empty ones.
    ///
    /// # Errors
    /// EBUSY where another thread may be reading them.
    pub fn wipe(self, name: &CStr) -> Result<(), Errno> {
        threads::expect_one()?;
        let length = self.end - self.start;
        let name = name.to_bytes();
        // SAFETY: the kernel says that this memory, on the stack that the process began with, holds those strings and
        // nothing else. The standard library has pointers to them, and gives copies. One thread runs. No more than the area
        // is written, and the last byte stays a NUL, which ends any of the strings.
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
