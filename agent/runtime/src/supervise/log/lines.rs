//! Chooses lines of a log by their number from the end and by their times.

use std::io;
use std::time::SystemTime;

use super::{Piece, Reader, Stream};

/// Which lines of a log are wanted, and whether each begins with its time.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinesWanted {
    /// The number of lines at the end of the log, of both streams together. None for all.
    pub tail: Option<u64>,
    /// No line that is older.
    pub since: Option<SystemTime>,
    /// No line that is newer.
    pub until: Option<SystemTime>,
    /// Whether each line begins with its time.
    pub timestamps: bool,
}

/// Passes on the wanted lines of a log. The time of a line is that of its first byte.
#[derive(Debug)]
pub struct Lines {
    wanted: LinesWanted,
    /// The number of lines that come before the wanted ones at the end.
    before_tail: u64,
    unfinished: Unfinished<bool>,
    has_timeless: bool,
}

/// What is known of the line of each stream that has begun and has not ended.
type Unfinished<T> = [Option<T>; Stream::Errors as usize + 1];

impl Lines {
    /// Counts the lines that `reader` has found, where only the last ones are wanted.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn new(wanted: LinesWanted, reader: &Reader) -> io::Result<Self> {
        Ok(Self {
            wanted,
            before_tail: match wanted.tail {
                Some(tail) => count(reader)?.saturating_sub(tail),
                None => 0,
            },
            unfinished: Unfinished::default(),
            has_timeless: false,
        })
    }

    /// Returns the part of a piece that belongs to wanted lines.
    pub fn of(&mut self, piece: Piece<'_>) -> Vec<u8> {
        let stream = piece.stream as usize;
        let mut text = Vec::with_capacity(piece.bytes.len());
        for line in lines(piece.bytes) {
            let is_wanted = self.unfinished[stream].unwrap_or_else(|| {
                let is_wanted = self.is_wanted(piece.time);
                if is_wanted && self.wanted.timestamps {
                    text.extend(timestamp(piece.time).into_bytes());
                }
                is_wanted
            });
            if is_wanted {
                text.extend_from_slice(line);
            }
            self.unfinished[stream] = (!line.ends_with(b"\n")).then_some(is_wanted);
        }
        text
    }

    /// Whether no line that begins at `now` or later is wanted.
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.wanted.until.is_some_and(|until| until < now)
    }

    /// Whether lines without a time were left out, because lines of certain times are wanted.
    pub const fn has_timeless(&self) -> bool {
        self.has_timeless
    }

    /// Whether a line that begins now in the log is wanted.
    fn is_wanted(&mut self, time: Option<SystemTime>) -> bool {
        if self.before_tail > 0 {
            self.before_tail -= 1;
            return false;
        }
        let LinesWanted { since, until, .. } = self.wanted;
        match time {
            Some(time) => since.is_none_or(|it| it <= time) && until.is_none_or(|it| time <= it),
            None if since.is_none() && until.is_none() => true,
            None => {
                self.has_timeless = true;
                false
            }
        }
    }
}

/// Counts the lines that begin in the files which `reader` has found.
fn count(reader: &Reader) -> io::Result<u64> {
    let mut unfinished: Unfinished<()> = Unfinished::default();
    let mut number = 0;
    reader.look_ahead(|piece| {
        if piece.stream == Stream::Number {
            return;
        }
        let stream = piece.stream as usize;
        for line in lines(piece.bytes) {
            number += u64::from(unfinished[stream].is_none());
            unfinished[stream] = (!line.ends_with(b"\n")).then_some(());
        }
    })?;
    Ok(number)
}

/// Splits bytes after each line break.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|&byte| byte == b'\n')
}

/// Formats the time of a line as RFC 3339 does; `-` where the log has none.
fn timestamp(time: Option<SystemTime>) -> String {
    time.map_or_else(
        || "- ".to_owned(),
        |time| format!("{} ", humantime::format_rfc3339_nanos(time)),
    )
}
