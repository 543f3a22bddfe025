//! Translates the options of a mount.

use std::ffi::CString;

use agent_rootfs::propagation::Propagation;
use agent_sys::launch::MountAttributes;

use super::text;
use crate::launch::Error;

/// The options of a mount, by what they apply to.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) bind: bool,
    pub(super) recursive: bool,
    pub(super) attributes: MountAttributes,
    pub(super) propagation: Option<u64>,
    /// The options of the file system itself.
    pub(super) data: Vec<(CString, Option<CString>)>,
}

/// Options that are attributes of a mount (mount(8)): the name, the bits that it sets, and the bits that it clears.
const ATTRIBUTES: [(&str, u64, u64); 19] = [
    ("ro", libc::MOUNT_ATTR_RDONLY, 0),
    ("rw", 0, libc::MOUNT_ATTR_RDONLY),
    ("nosuid", libc::MOUNT_ATTR_NOSUID, 0),
    ("suid", 0, libc::MOUNT_ATTR_NOSUID),
    ("nodev", libc::MOUNT_ATTR_NODEV, 0),
    ("dev", 0, libc::MOUNT_ATTR_NODEV),
    ("noexec", libc::MOUNT_ATTR_NOEXEC, 0),
    ("exec", 0, libc::MOUNT_ATTR_NOEXEC),
    ("noatime", libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME),
    (
        "relatime",
        libc::MOUNT_ATTR_RELATIME,
        libc::MOUNT_ATTR__ATIME,
    ),
    (
        "strictatime",
        libc::MOUNT_ATTR_STRICTATIME,
        libc::MOUNT_ATTR__ATIME,
    ),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME, 0),
    ("diratime", 0, libc::MOUNT_ATTR_NODIRATIME),
    ("atime", 0, libc::MOUNT_ATTR__ATIME),
    ("norelatime", 0, libc::MOUNT_ATTR__ATIME),
    ("nostrictatime", 0, libc::MOUNT_ATTR__ATIME),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, 0),
    ("symfollow", 0, libc::MOUNT_ATTR_NOSYMFOLLOW),
    ("defaults", 0, 0),
];

/// Options of container runtimes that this launcher does not support.
const RUNTIMES: [&str; 6] = [
    "tmpcopyup",
    "copy-symlink",
    "idmap",
    "ridmap",
    "remount",
    "bind-nonrecursive",
];

/// Finds an attribute by its name, also with the prefix `r` (recursive) of container runtimes. The prefix changes
/// nothing: attributes of a bind mount always apply to the mounts below it, and a new file system has none below it.
fn attribute(option: &str) -> Option<(u64, u64)> {
    let of = |option: &str| ATTRIBUTES.iter().find(|(name, ..)| *name == option);
    let recursive = || option.strip_prefix('r').and_then(of);
    let (_, set, clear) = of(option).or_else(recursive)?;
    Some((*set, *clear))
}

impl Options {
    pub(super) fn parse(options: &[String]) -> Result<Self, Error> {
        let mut parsed = Self::default();
        for option in options {
            let option = option.as_str();
            if let Some((set, clear)) = attribute(option) {
                parsed.attributes.set = parsed.attributes.set & !clear | set;
                parsed.attributes.clear = parsed.attributes.clear & !set | clear;
            } else if let Some(propagation) = Propagation::parse(option) {
                parsed.propagation = Some(propagation.kind);
            } else if option == "bind" || option == "rbind" {
                parsed.bind = true;
                parsed.recursive = option == "rbind";
            } else if RUNTIMES.contains(&option) {
                return Err(Error::invalid(format!(
                    "mount option {option} is not supported; leave it out"
                )));
            } else {
                let (name, value) = match option.split_once('=') {
                    Some((name, value)) => (name, Some(text(value)?)),
                    None => (option, None),
                };
                parsed.data.push((text(name)?, value));
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_to_who_understands_them() {
        let options: Vec<String> = ["rnosuid", "ro", "rrw", "size=64m", "newinstance", "rslave"]
            .map(str::to_owned)
            .into();
        let parsed = Options::parse(&options).unwrap();
        assert_eq!(parsed.attributes.set, libc::MOUNT_ATTR_NOSUID);
        assert_eq!(parsed.attributes.clear, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(parsed.propagation, Some(libc::MS_SLAVE));
        let names: Vec<_> = parsed
            .data
            .iter()
            .map(|(name, _)| name.to_str().unwrap())
            .collect();
        assert_eq!(names, ["size", "newinstance"]);
    }
}
