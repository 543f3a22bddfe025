//! Parses the bounds of a log.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::Size;
use crate::order::LogLimits;

/// `max-size=BYTES` or `max-file=NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOption {
    /// The most bytes of a file.
    MaxSize(u64),
    /// The number of files.
    MaxFile(u32),
}

impl FromStr for LogOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SIZES: RangeInclusive<u64> = 64 << 10..=1 << 40;
        const FILES: RangeInclusive<u32> = 1..=1000;
        match text.split_once('=') {
            Some(("max-size", value)) => match value.parse() {
                Ok(Size(bytes)) if SIZES.contains(&bytes) => Ok(Self::MaxSize(bytes)),
                _ => Err("wanted: max-size= a number of bytes from 64k to 1t, as in 10m".into()),
            },
            Some(("max-file", value)) => match value.parse() {
                Ok(files) if FILES.contains(&files) => Ok(Self::MaxFile(files)),
                _ => Err("wanted: max-file= a number of files from 1 to 1000".into()),
            },
            _ => Err("wanted: max-size=BYTES or max-file=NUMBER".into()),
        }
    }
}

/// Returns the limits of a log. The last option of each kind wins.
pub fn log_limits(options: &[LogOption]) -> LogLimits {
    let mut limits = LogLimits::default();
    for option in options {
        match *option {
            LogOption::MaxSize(bytes) => limits.file_bytes = bytes,
            LogOption::MaxFile(files) => limits.files = files,
        }
    }
    limits
}
