//! The propagation types of mounts (mount_namespaces(7)), as OCI and mount(8) name them.

use oci_spec::runtime::Spec;

/// A mount's propagation type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// The type: `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE` or `MS_UNBINDABLE`.
    pub kind: u64,
    /// Whether the mounts below get it too.
    pub recursive: bool,
}

const KINDS: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("unbindable", libc::MS_UNBINDABLE),
];

impl Propagation {
    /// The names of all propagation types.
    pub const WORDS: &str =
        "private, rprivate, shared, rshared, slave, rslave, unbindable or runbindable";

    /// Parses one of [`Self::WORDS`].
    pub fn parse(word: &str) -> Option<Self> {
        let of = |word: &str| KINDS.iter().find(|(name, _)| *name == word);
        let recursive = || word.strip_prefix('r').and_then(of);
        let (found, recursive) = match of(word) {
            Some(found) => (found, false),
            None => (recursive()?, true),
        };
        let kind = found.1;
        Some(Self { kind, recursive })
    }

    /// Returns the propagation of a container's root; `None` where the spec has none, or not a valid one.
    pub fn of_root(spec: &Spec) -> Option<Self> {
        let word = spec.linux().as_ref()?.rootfs_propagation();
        Self::parse(word.as_ref()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for word in Propagation::WORDS.replace(" or ", ", ").split(", ") {
            let parsed = Propagation::parse(word).unwrap();
            assert_eq!(parsed.recursive, word.starts_with('r'), "{word}");
        }
        for word in ["", "r", "bogus", "rrshared", "ro"] {
            assert_eq!(Propagation::parse(word), None, "{word}");
        }
    }
}
