//! The memory of the host: proc_meminfo(5).

use std::path::PathBuf;

use procfs_core::FromBufRead as _;
pub(super) use procfs_core::Meminfo;

use super::Error;
use super::file::File;

/// Reads a file in the format of `/proc/meminfo`. All numbers are in bytes.
pub(super) fn read(path: PathBuf) -> Result<Meminfo, Error> {
    let file = File::read(path)?;
    Meminfo::from_buf_read(&*file.bytes)
        .map_err(|_| file.malformed(&file.bytes, "the rows of proc_meminfo(5)"))
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
