//! Reads `/etc/ld.so.cache`, in which glibc's ldconfig maps libraries to files (`sysdeps/generic/dl-cache.h`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// The format since glibc 2.2.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// The older format. A file in this format may contain the newer one after it.
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";

/// The most files of one library. The cache has one for each kind of processor.
const MOST_FOUND: usize = 64;

/// The most bytes of a path, with its NUL (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// Returns the files that the cache has for a library, each for another kind of processor. A damaged cache has none.
///
/// Integers are in this machine's byte order, as the loader reads them.
pub(super) fn find(cache: &[u8], library: &OsStr) -> Vec<PathBuf> {
    let Some(cache) = newest_format(cache) else {
        return Vec::new();
    };
    let count = number(cache, MAGIC.len()).unwrap_or(0) as usize;
    let entries = cache.get(HEADER..).unwrap_or_default().chunks_exact(ENTRY);
    let found = entries.take(count).filter_map(|entry| {
        let name = string(cache, number(entry, 4)?)?;
        (name == library.as_bytes()).then_some(())?;
        let path = string(cache, number(entry, 8)?)?;
        (path.starts_with(b"/") && path.len() < LONGEST_PATH)
            .then(|| OsString::from_vec(path.to_vec()).into())
    });
    found.take(MOST_FOUND).collect()
}

/// Returns the cache from the magic of the newest format on. The offsets of strings count from there.
fn newest_format(cache: &[u8]) -> Option<&[u8]> {
    if cache.starts_with(MAGIC) {
        return Some(cache);
    }
    cache.starts_with(OLD_MAGIC).then_some(())?;
    let entries = number(cache, OLD_HEADER - 4)? as usize;
    let end = entries.checked_mul(OLD_ENTRY)?.checked_add(OLD_HEADER)?;
    let newest = cache.get(end.checked_next_multiple_of(8)?..)?;
    newest.starts_with(MAGIC).then_some(newest)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn string(cache: &[u8], at: u32) -> Option<&[u8]> {
    let rest = cache.get(at as usize..)?;
    rest.split(|byte| *byte == 0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(libraries: &[(&str, &str)]) -> Vec<u8> {
        let mut cache = MAGIC.to_vec();
        cache.extend((libraries.len() as u32).to_ne_bytes());
        cache.resize(HEADER, 0);
        let mut strings = Vec::new();
        let start = HEADER + libraries.len() * ENTRY;
        let mut put = |text: &str| {
            let at = (start + strings.len()) as u32;
            strings.extend(text.as_bytes());
            strings.push(0);
            at
        };
        for (name, path) in libraries {
            let mut entry = 0x0303_u32.to_ne_bytes().to_vec();
            entry.extend(put(name).to_ne_bytes());
            entry.extend(put(path).to_ne_bytes());
            entry.resize(ENTRY, 0);
            cache.extend(entry);
        }
        cache.extend(strings);
        cache
    }

    #[test]
    fn finds_every_file_of_a_library() {
        let cache = cache(&[
            ("libb.so.1", "/opt/libb.so.1"),
            ("liba.so.1", "/usr/lib/glibc-hwcaps/x86-64-v3/liba.so.1"),
            ("liba.so.1", "/usr/lib/liba.so.1"),
        ]);
        let found = find(&cache, OsStr::new("liba.so.1"));
        let wanted = [
            "/usr/lib/glibc-hwcaps/x86-64-v3/liba.so.1",
            "/usr/lib/liba.so.1",
        ];
        assert_eq!(found, wanted.map(PathBuf::from));
        assert!(find(&cache, OsStr::new("libc.so.6")).is_empty());
    }

    #[test]
    fn knows_the_format_behind_the_old_one() {
        let mut both = OLD_MAGIC.to_vec();
        both.push(0);
        both.extend(1_u32.to_ne_bytes());
        both.extend([0; OLD_ENTRY]);
        both.resize(both.len().next_multiple_of(8), 0);
        both.extend(cache(&[("liba.so.1", "/lib/liba.so.1")]));
        let found = find(&both, OsStr::new("liba.so.1"));
        assert_eq!(found, [PathBuf::from("/lib/liba.so.1")]);
    }

    #[test]
    fn no_input_is_too_bad() {
        let whole = cache(&[("liba.so.1", "/lib/liba.so.1")]);
        for length in 0..whole.len() {
            find(&whole[..length], OsStr::new("liba.so.1"));
        }
        for at in 0..HEADER + ENTRY {
            let mut damaged = whole.clone();
            damaged[at] = 0xff;
            find(&damaged, OsStr::new("liba.so.1"));
        }
    }
}
