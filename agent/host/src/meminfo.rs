//! The memory of the host: proc_meminfo(5).

use std::path::PathBuf;

use procfs_core::FromBufRead as _;
pub(super) use procfs_core::Meminfo;

use super::Error;
use super::file::File;

/// Reads a file in the format of `/proc/meminfo`. All numbers are in bytes.
pub(super) fn read(path: PathBuf) -> Result<Meminfo, Error> {
    let file = File::read(path)?;
    let read = is_well_formed(&file.bytes).then(|| Meminfo::from_buf_read(&*file.bytes).ok());
    let malformed = || file.malformed(&file.bytes, "the rows of proc_meminfo(5)");
    read.flatten().ok_or_else(malformed)
}

/// Whether each row is a name, a number, and maybe `kB`. procfs panics at some rows that are not in ASCII, and multiplies
/// without a check.
fn is_well_formed(bytes: &[u8]) -> bool {
    /// The digits of a number that can be multiplied by 1024.
    const DIGITS: usize = 16;
    let rows = bytes.split(|byte| *byte == b'\n');
    let is_row = |row: &[u8]| {
        let words = row.split(u8::is_ascii_whitespace);
        let mut words = words.filter(|word| !word.is_empty()).skip(1);
        words.next().is_some_and(|number| number.len() <= DIGITS)
            && words.next().is_none_or(|unit| unit == b"kB")
    };
    bytes.is_ascii() && rows.filter(|row| !row.is_empty()).all(is_row)
}

/// What a kernel writes there, with these rows in place of its own.
#[cfg(test)]
pub(super) fn sample(rows: &[(&str, u64)]) -> String {
    const NAMES: [&str; 19] = [
        "MemTotal",
        "MemFree",
        "Buffers",
        "Cached",
        "SwapCached",
        "Active",
        "Inactive",
        "Inactive(file)",
        "SwapTotal",
        "SwapFree",
        "Dirty",
        "Writeback",
        "Mapped",
        "Slab",
        "Committed_AS",
        "VmallocTotal",
        "VmallocUsed",
        "VmallocChunk",
        "Percpu",
    ];
    let line = |name: &str| {
        let given = rows.iter().find(|(given, _)| *given == name);
        format!("{name}: {:>8} kB\n", given.map_or(0, |(_, kib)| *kib))
    };
    NAMES.map(line).concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::tree;

    #[test]
    fn what_procfs_does_not_stand_is_malformed() {
        let good = sample(&[("MemTotal", 9)]);
        assert!(is_well_formed(good.as_bytes()));
        for row in [
            "SwapTotal+c\u{fffd} 7 kB",
            "SwapTotal: 99999999999999999 kB",
            "SwapTotal: 7 GB",
            "SwapTotal:",
            " ",
        ] {
            let root = tree(&[("proc/meminfo", format!("{good}{row}\n"))]);
            let read = read(root.path().join("proc/meminfo"));
            assert!(matches!(read, Err(Error::Malformed { .. })), "{row}");
        }
    }

    #[test]
    fn numbers_are_bytes_and_garbage_is_an_error() {
        let read = |text: &str| read(tree(&[("meminfo", text)]).path().join("meminfo"));
        let good = sample(&[("MemTotal", 24_684_084)]);
        let bytes = read(&good).unwrap().mem_total;
        assert_eq!(bytes, 24_684_084 * 1024);
        for wrong in [
            "",
            "MemTotal: many\n",
            &good.replace("kB", "parsecs"),
            &good.replace("SwapTotal", "Swap"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{error}");
        }
    }

    #[test]
    fn this_kernel_writes_all_of_it() {
        let memory = read("/proc/meminfo".into()).unwrap();
        assert!(memory.mem_total > memory.mem_free && memory.inactive_file.is_some());
    }
}
