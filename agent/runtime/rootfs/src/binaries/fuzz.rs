//! Reads untrusted programs and caches of their loader, for a fuzzer.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;

use rustix::fs::{MemfdFlags, memfd_create};

use super::{cache, elf};

/// Reads an ELF file. A machine without memory for it reads nothing.
pub fn elf(bytes: &[u8]) {
    let file = memfd_create("elf", MemfdFlags::CLOEXEC).map(File::from);
    let Ok(mut file) = file else {
        return;
    };
    if file.write_all(bytes).is_ok() {
        let _ = elf::read(&file);
    }
}

/// Searches the loader's cache for a library.
pub fn library_cache(bytes: &[u8], library: &OsStr) {
    let _ = cache::find(bytes, library);
}
