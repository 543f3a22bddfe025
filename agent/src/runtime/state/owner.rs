//! Whose the directories are in which state is kept.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// Others may write there, and nobody may rename or remove what is another's.
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;

/// Whether it is a directory of this user's that nobody else may write to.
pub fn is_own(found: &Metadata) -> bool {
    found.is_dir()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.mode() & OTHERS_WRITE == 0
}

/// Whether what this user makes in it stays this user's: it is the user's own or root's, and others may not rename in it.
pub fn is_safe_above(found: &Metadata) -> bool {
    let own = [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
    found.is_dir() && own && (found.mode() & OTHERS_WRITE == 0 || found.mode() & STICKY != 0)
}
