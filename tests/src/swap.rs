//! A swap of the tests' own, in memory.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::program::program;
use crate::run::text;

/// A device of zram(8) as swap. Dropping it takes it away.
#[derive(Debug)]
pub struct Swap;

const DEVICE: &str = "/dev/zram0";
const BLOCK: &str = "/sys/block/zram0";

impl Swap {
    /// One of so many bytes; none where there is no device, or somebody uses it: then the skip is printed.
    ///
    /// # Panics
    /// Where it cannot be set up.
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        let block = Path::new(BLOCK);
        let size = fs::read_to_string(block.join("disksize")).unwrap_or_default();
        if size.trim() != "0" {
            crate::skip(format_args!("needs {DEVICE} for itself, to swap to"));
            return None;
        }
        fs::write(block.join("disksize"), bytes.to_string()).expect("a size");
        let swap = Self;
        text(Command::new(program("busybox")).args(["mkswap", DEVICE]));
        text(Command::new(program("busybox")).args(["swapon", DEVICE]));
        Some(swap)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let _ = Command::new(program("busybox"))
            .args(["swapoff", DEVICE])
            .status();
        // Its memory is free then.
        let _ = fs::write(Path::new(BLOCK).join("reset"), "1");
    }
}
