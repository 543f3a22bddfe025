//! Reads one small file of the kernel whole, and parses the formats that many of them share: a number, and rows of a
//! key and a number.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;

use super::Error;

/// No file that is read here is nearly as long: the longest, `cgroup.procs`, has 8 bytes for each process.
const MAX_BYTES: u64 = 64 << 20;

/// Holds all but the longest files, and avoids the extra reads of a buffer that grows.
const USUAL_BYTES: usize = 4096;

/// The content of a file.
pub(super) struct File {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl File {
    /// Reads the file at `path`.
    pub fn read(path: PathBuf) -> Result<Self, Error> {
        match fs::File::open(&path) {
            Ok(file) => Self::read_from(file, path),
            Err(source) => Err(Error::new(path, source)),
        }
    }

    /// Reads an open file; `path` is for errors.
    pub fn read_from(file: fs::File, path: PathBuf) -> Result<Self, Error> {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        match file.take(MAX_BYTES).read_to_end(&mut bytes) {
            Ok(_) => Ok(Self { path, bytes }),
            Err(source) => Err(Error::new(path, source)),
        }
    }

    /// The lines that are not empty, without their newlines.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
    }

    /// The text of a file of one line, without the newline.
    pub fn text(&self) -> &[u8] {
        self.bytes.trim_ascii()
    }

    /// The text of a file of one line, which must be UTF-8.
    pub fn string(&self) -> Result<String, Error> {
        str::from_utf8(self.text())
            .map(str::to_owned)
            .map_err(|_| self.malformed(self.text(), "UTF-8"))
    }

    /// The number that is the file's whole text.
    pub fn number(&self) -> Result<u64, Error> {
        number(self.text()).ok_or_else(|| self.malformed(self.text(), "a number"))
    }

    /// The first word after `key` in the line that begins with it.
    pub fn word_of(&self, key: &str) -> Option<&[u8]> {
        self.lines().find_map(|line| {
            let mut words = words(line);
            (words.next()? == key.as_bytes()).then(|| words.next().unwrap_or_default())
        })
    }

    /// The number after `key` in the line that begins with it, if there is such a line.
    pub fn number_of<T: FromStr>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(word) = self.word_of(key) else {
            return Ok(None);
        };
        match number(word) {
            Some(number) => Ok(Some(number)),
            None => Err(self.malformed(word, "a number that is not too big")),
        }
    }

    /// The number after `key`, which must be there; `wanted` describes the line.
    pub fn expect_number_of<T: FromStr>(
        &self,
        key: &str,
        wanted: &'static str,
    ) -> Result<T, Error> {
        self.number_of(key)?
            .ok_or_else(|| self.malformed(&self.bytes, wanted))
    }

    /// An error about `line` of this file.
    pub fn malformed(&self, line: &[u8], wanted: &'static str) -> Error {
        Error::malformed(self.path.clone(), line, wanted)
    }
}

/// The words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// A decimal number without sign.
pub(super) fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}
