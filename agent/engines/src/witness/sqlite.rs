//! Reads one row of a table in an SQLite database file (<https://www.sqlite.org/fileformat2.html>), as of the last
//! transaction that was written to the file.
//!
//! It takes no lock. While a transaction is being written, a row may be missing or mixed, so the caller checks what it
//! gets. The number of pages that it reads is bounded, whatever the file holds.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// The most pages that one search reads.
const PAGES_AT_MOST: u32 = 8192;

/// The most bytes of a row.
const ROW_AT_MOST: usize = 1 << 20;

const MAGIC: &[u8] = b"SQLite format 3\0";

/// The types of pages of a table's tree.
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// An open database file.
pub(super) struct Database {
    file: File,
    page_bytes: usize,
    /// The bytes of a page that SQLite uses.
    usable: usize,
    pages_left: u32,
}

/// A row's bytes, as far as they are known.
pub(super) struct SqlRow(Vec<u8>);

/// A column's value.
#[derive(Debug, PartialEq, Eq)]
enum SqlValue<'a> {
    Integer(i64),
    Text(&'a [u8]),
    Other,
}

impl Database {
    /// Reads the header of `file`.
    pub(super) fn open(file: File) -> Option<Self> {
        let mut header = [0; 100];
        file.read_exact_at(&mut header, 0).ok()?;
        let page_bytes = match usize::from(u16::from_be_bytes([header[16], header[17]])) {
            1 => 65536,
            bytes => bytes,
        };
        let usable = page_bytes.checked_sub(header[20].into())?;
        let is_sound = header.starts_with(MAGIC) && page_bytes.is_power_of_two() && usable >= 480;
        is_sound.then_some(Self {
            file,
            page_bytes,
            usable,
            pages_left: PAGES_AT_MOST,
        })
    }

    /// The row of `table` whose first column is the text `key`.
    pub(super) fn row(mut self, table: &str, key: &str) -> Option<SqlRow> {
        let is_table = |columns: &[SqlValue<'_>]| matches!(columns, [SqlValue::Text(b"table"), SqlValue::Text(name), ..] if *name == table.as_bytes());
        let schema = self.find(1, is_table)?;
        let Some(SqlValue::Integer(root)) = columns(&schema.0).into_iter().nth(3) else {
            return None;
        };
        let is_row = |columns: &[SqlValue<'_>]| matches!(columns, [SqlValue::Text(text), ..] if *text == key.as_bytes());
        self.find(u32::try_from(root).ok()?, is_row)
    }

    /// The first row of the tree at page `root` whose first columns are the wanted ones.
    fn find(&mut self, root: u32, wanted: impl Fn(&[SqlValue<'_>]) -> bool) -> Option<SqlRow> {
        let mut pages = vec![root];
        while let Some(number) = pages.pop() {
            let page = self.page(number)?;
            // The first page begins with the file's header.
            let begin = if number == 1 { 100 } else { 0 };
            let cells = usize::from(u16_at(&page, begin + 3)?);
            let (kind, header) = match *page.get(begin)? {
                INTERIOR => (INTERIOR, 12),
                LEAF => (LEAF, 8),
                _ => return None,
            };
            if kind == INTERIOR {
                pages.push(u32_at(&page, begin + 8)?);
            }
            for cell in 0..cells {
                let at = usize::from(u16_at(&page, begin + header + 2 * cell)?);
                if kind == INTERIOR {
                    pages.push(u32_at(&page, at)?);
                    continue;
                }
                let (local, size, overflow) = self.payload(&page, at)?;
                if wanted(&columns(local)) {
                    return self.whole(local.to_vec(), size, overflow);
                }
            }
        }
        None
    }

    fn page(&mut self, number: u32) -> Option<Vec<u8>> {
        self.pages_left = self.pages_left.checked_sub(1)?;
        let index = u64::from(number.checked_sub(1)?);
        let mut page = vec![0; self.page_bytes];
        let at = index.checked_mul(self.page_bytes as u64)?;
        self.file.read_exact_at(&mut page, at).ok()?;
        Some(page)
    }

    /// The part of the row at `at` that is in this page, the size of the row, and the page with the next part.
    fn payload<'a>(&self, page: &'a [u8], at: usize) -> Option<(&'a [u8], usize, u32)> {
        let (size, after) = varint(page, at)?;
        let (_, begin) = varint(page, after)?;
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size <= ROW_AT_MOST)?;
        let usable = self.usable;
        if size <= usable - 35 {
            return Some((page.get(begin..begin + size)?, size, 0));
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let local = least + (size - least) % (usable - 4);
        let local = if local <= usable - 35 { local } else { least };
        let end = begin + local;
        Some((page.get(begin..end)?, size, u32_at(page, end)?))
    }

    /// The row, with its parts in other pages.
    fn whole(&mut self, mut row: Vec<u8>, size: usize, mut next: u32) -> Option<SqlRow> {
        while row.len() < size {
            let page = self.page(next)?;
            let part = (size - row.len()).min(self.usable - 4);
            row.extend_from_slice(page.get(4..4 + part)?);
            next = u32_at(&page, 0)?;
        }
        Some(SqlRow(row))
    }
}

impl SqlRow {
    /// The text of a column.
    pub(super) fn text(&self, column: usize) -> Option<&str> {
        match columns(&self.0).into_iter().nth(column)? {
            SqlValue::Text(text) => str::from_utf8(text).ok(),
            _ => None,
        }
    }
}

/// The columns whose bytes are there.
fn columns(row: &[u8]) -> Vec<SqlValue<'_>> {
    let mut found = Vec::new();
    let Some((header, mut at)) = varint(row, 0) else {
        return found;
    };
    let header = usize::try_from(header).unwrap_or(usize::MAX);
    let mut body = header;
    while at < header {
        let Some((kind, after)) = varint(row, at) else {
            break;
        };
        at = after;
        let bytes = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            text => text.saturating_sub(12) / 2,
        };
        let end = usize::try_from(bytes)
            .ok()
            .and_then(|it| body.checked_add(it));
        let Some(value) = end.and_then(|end| row.get(body..end)) else {
            break;
        };
        body += value.len();
        found.push(match kind {
            8 | 9 => SqlValue::Integer(i64::try_from(kind - 8).unwrap_or_default()),
            1..=6 => SqlValue::Integer(integer(value)),
            13.. if kind % 2 == 1 => SqlValue::Text(value),
            _ => SqlValue::Other,
        });
    }
    found
}

/// A big-endian two's complement number of up to 8 bytes.
fn integer(bytes: &[u8]) -> i64 {
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let sign = if is_negative { -1 } else { 0 };
    bytes
        .iter()
        .fold(sign, |number, byte| (number << 8) | i64::from(*byte))
}

/// A number of up to 9 bytes, and the index after it.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut number = 0;
    for index in 0..8 {
        let byte = *bytes.get(at + index)?;
        number = (number << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, at + index + 1));
        }
    }
    let last = *bytes.get(at + 8)?;
    Some(((number << 8) | u64::from(last), at + 9))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// A database that SQLite 3.40 made with podman 5.4's schema: 40 containers, each with up to 1 KB of JSON, on pages of 1 KiB.
    const DATABASE: &[u8] = include_bytes!("tests/podman.sql");

    fn database(bytes: &[u8]) -> Option<Database> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Database::open(file)
    }

    #[test]
    fn each_row_is_found() {
        let row = |key: &str| database(DATABASE).unwrap().row("ContainerConfig", key);
        for number in 0..40 {
            let found = row(&format!("{number:064x}")).unwrap();
            assert_eq!(found.text(1), Some(&*format!("web-{number}")));
            let json: serde_json::Value = serde_json::from_str(found.text(3).unwrap()).unwrap();
            assert_eq!(json["name"], format!("web-{number}"));
            assert_eq!(found.text(4), None);
        }
        assert!(row("nobody").is_none());
        assert!(database(DATABASE).unwrap().row("NoTable", "x").is_none());
    }

    #[test]
    fn numbers() {
        assert_eq!(varint(&[0x81, 0x00], 0), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9], 0), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0x80], 0), None);
        assert_eq!(integer(&[0xff, 0xfe]), -2);
        assert_eq!(integer(&[0x01, 0x00]), 256);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_damage_panics_or_goes_on_for_ever(
            changes in prop::collection::vec((0..DATABASE.len(), any::<u8>()), 1..40),
            head in prop::collection::vec((100..200_usize, any::<u8>()), 0..4),
        ) {
            let mut bytes = DATABASE.to_vec();
            for (at, byte) in changes.into_iter().chain(head) {
                bytes[at] = byte;
            }
            if let Some(database) = database(&bytes) {
                let row = database.row("ContainerConfig", &format!("{:064x}", 39));
                if let Some(row) = row {
                    row.text(3);
                }
            }
        }
    }
}
