//! The kernel's messages on its console. Each OOM kill is one, which the kernel prints on the CPU of the kill, with
//! interrupts off; by a serial line that takes milliseconds, in which nothing else runs there.

use std::fs;

/// The first number: messages of this level and above do not reach the console (syslog(2)).
const LEVELS: &str = "/proc/sys/kernel/printk";

/// Nothing but a panic reaches the console, until [`restore`].
///
/// # Panics
/// Without root.
pub fn silence() {
    fs::write(LEVELS, "1").expect("the console can be silenced");
}

/// The level, if it can be read.
pub fn level() -> Option<String> {
    let levels = fs::read_to_string(LEVELS).ok()?;
    Some(levels.split_whitespace().next()?.to_owned())
}

/// Sets the level that was.
pub fn restore(level: Option<String>) {
    if let Some(level) = level.filter(|before| self::level().as_ref() != Some(before)) {
        // Where it cannot be written, it was not.
        let _ = fs::write(LEVELS, level);
    }
}
