//! Opens a record that another program wrote, and that its owner alone may have written.

use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::OFlags;

use crate::owner::Owner;
use crate::regular::{self, Links};

/// Bytes of a record that are read: the longest, an OCI configuration with a filter of system calls, has some 50 KB.
const LONGEST: u64 = 1 << 20;

/// A record, as it was when it was read.
#[derive(Debug)]
pub struct Document {
    pub bytes: Vec<u8>,
    pub written: SystemTime,
}

/// Reads `path` below the directory `base`. `None` where it is not there, a part of it is a link, it is no file, or
/// somebody else than `owner` may write to it.
pub fn read(base: &Path, path: &Path, owner: u32) -> Option<Document> {
    let owner = Owner(owner);
    let base = owner.open_directory(base).ok()?;
    // What a user mounts there, as by fuse(4), answers when that user likes.
    let links = Links::Nowhere {
        mounts: owner == Owner(0),
    };
    let file = regular::open_at(&base, path, OFlags::RDONLY, links).ok()?;
    let found = file.metadata().ok()?;
    if !owner.alone_has(&found) || found.len() > LONGEST {
        return None;
    }
    let mut bytes = Vec::new();
    (&file).take(LONGEST).read_to_end(&mut bytes).ok()?;
    let written = found.modified().ok()?;
    Some(Document { bytes, written })
}
