//! Replaces the dynamic string tokens `$ORIGIN`, `$LIB` and `$PLATFORM` in the paths of libraries (ld.so(8)).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::elf::ElfTarget;

/// The values of the dynamic string tokens on an architecture.
pub(super) struct LoaderTokens {
    /// `EM_*`
    machine: u16,
    bits: u8,
    /// The values of `$LIB`: that of Debian and its derivatives, then those of others. The loader searches these
    /// directories last.
    pub libraries: [&'static str; 3],
    /// `$PLATFORM`
    platform: &'static str,
}

const TOKENS: [LoaderTokens; 6] = [
    words(62, 64, "lib/x86_64-linux-gnu", "lib64", "x86_64"),
    words(62, 32, "lib/x86_64-linux-gnux32", "libx32", "x86_64"),
    words(3, 32, "lib/i386-linux-gnu", "lib32", "i686"),
    words(183, 64, "lib/aarch64-linux-gnu", "lib64", "aarch64"),
    words(40, 32, "lib/arm-linux-gnueabihf", "lib", "v7l"),
    words(243, 64, "lib/riscv64-linux-gnu", "lib64", "riscv64"),
];

/// The values for an unknown architecture.
const OTHER: LoaderTokens = words(0, 0, "lib", "lib", "");

const fn words(
    machine: u16,
    bits: u8,
    debian: &'static str,
    others: &'static str,
    platform: &'static str,
) -> LoaderTokens {
    LoaderTokens {
        machine,
        bits,
        libraries: [debian, others, "lib"],
        platform,
    }
}

impl LoaderTokens {
    pub(super) fn of(kind: ElfTarget) -> &'static Self {
        let known = TOKENS
            .iter()
            .find(|it| (it.machine, it.bits) == (kind.machine, kind.bits));
        known.unwrap_or(&OTHER)
    }

    /// Replaces the tokens in `text`, with or without braces. `origin` is the directory of the file that contains
    /// `text`. `$LIB` depends on how the loader was built, so there can be several results.
    pub(super) fn replace_in(&self, text: &OsStr, origin: &Path) -> Vec<PathBuf> {
        let text = text.as_bytes();
        let choices = match contains(text, b"$LIB") || contains(text, b"${LIB}") {
            true => &self.libraries[..],
            false => &self.libraries[..1],
        };
        let replaced = choices.iter().map(|library| {
            let mut text = text.to_vec();
            for (name, value) in [
                ("ORIGIN", origin.as_os_str().as_bytes()),
                ("LIB", library.as_bytes()),
                ("PLATFORM", self.platform.as_bytes()),
            ] {
                text = replace(&text, format!("${{{name}}}").as_bytes(), value);
                text = replace(&text, format!("${name}").as_bytes(), value);
            }
            PathBuf::from(OsString::from_vec(text))
        });
        replaced.collect()
    }
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(text, what).is_some()
}

fn replace(text: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, what) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(with);
        rest = &rest[at + what.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_replaced() {
        let kind = ElfTarget {
            bits: 64,
            big_endian: false,
            machine: 62,
        };
        let replaced =
            |text: &str| LoaderTokens::of(kind).replace_in(text.as_ref(), Path::new("/opt/x"));
        assert_eq!(replaced("$ORIGIN/../lib"), [Path::new("/opt/x/../lib")]);
        let both = replaced("/a/${ORIGIN}b/$PLATFORM");
        assert_eq!(both, [Path::new("/a//opt/xb/x86_64")]);
        let libraries = replaced("/usr/${LIB}/x");
        let wanted = ["/usr/lib/x86_64-linux-gnu/x", "/usr/lib64/x", "/usr/lib/x"];
        assert_eq!(libraries, wanted.map(PathBuf::from));
        assert_eq!(replaced("$OTHER"), [Path::new("$OTHER")]);
    }
}
