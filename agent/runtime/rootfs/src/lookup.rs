//! Opens paths in an untrusted root file system. A link never leads out of it.

use std::os::fd::{BorrowedFd, OwnedFd};

use agent_host::faults::{Guard, guarded};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

/// A rename elsewhere makes the kernel give up a look-up that must stay inside; it then asks to try again.
const TRIES: usize = 64;

/// Whether symbolic links on the way are followed, inside the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPolicy {
    /// Links are followed inside the root.
    Follow,
    /// A link is an error.
    Refuse,
}

/// How openat2(2) stays inside the root, and what else it is to refuse.
#[must_use]
pub fn inside(refused: ResolveFlags) -> ResolveFlags {
    if guarded(Guard::RootLookup) {
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | refused
    } else {
        ResolveFlags::empty()
    }
}

/// Opens what is at `path`, which begins at the root whether it has a slash in front or not.
///
/// # Errors
/// openat2(2)'s; ELOOP where a link is refused.
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
