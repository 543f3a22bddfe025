//! Opens paths in an untrusted root file system. A link never leads out of it.

use std::os::fd::{BorrowedFd, OwnedFd};

use agent_host::faults::{Guard, guarded};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

/// The most attempts. Where a look-up must stay inside a root, the kernel gives up (EAGAIN) if a file is renamed
/// anywhere meanwhile (openat2(2)).
const TRIES: usize = 64;

/// Whether symbolic links on the way are followed, inside the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPolicy {
    /// Links are followed inside the root.
    Follow,
    /// A link is an error.
    Refuse,
}

/// Returns the flags that keep openat2(2) inside the root, together with `refused`.
#[must_use]
pub fn inside(refused: ResolveFlags) -> ResolveFlags {
    if guarded(Guard::RootLookup) {
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | refused
    } else {
        ResolveFlags::empty()
    }
}

/// Opens the file at `path`, which begins at `root` with or without a leading slash.
///
/// # Errors
/// Those of openat2(2); ELOOP where a link is refused.
pub fn open(
    root: BorrowedFd<'_>,
    path: impl Arg + Copy,
    links: LinkPolicy,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let how = inside(match links {
        LinkPolicy::Follow => ResolveFlags::empty(),
        LinkPolicy::Refuse => ResolveFlags::NO_SYMLINKS,
    });
    let open = || openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how);
    for _ in 1..TRIES {
        match open() {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    open()
}
