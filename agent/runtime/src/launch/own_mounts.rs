//! Checks that an opened file is on a mount of the container.
//!
//! The host's root can be reached until the step `leave`, because a user namespace may mount `/proc` only while another
//! `/proc` is visible. Look-ups of paths stay inside the container's root. This check detects one that did not.

use std::cell::Cell;
use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use agent_host::faults::{Guard, guarded};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, readlinkat_raw, statx};
use rustix::io::Errno;
use rustix::path::DecInt;

/// The most mount ids that are remembered. For any other mount, the kernel is asked for its path.
const MOST: usize = 64;

/// The ids of the mounts of a container: its root, and what was mounted in it.
#[derive(Debug)]
pub(super) struct OwnMounts {
    /// The path at which the container's root is mounted in the host's file tree, until it becomes the root.
    place: &'static CStr,
    numbers: [Cell<u64>; MOST],
    used: Cell<usize>,
}

impl OwnMounts {
    /// Remembers no mount yet. `place` is the path at which the container's root is mounted.
    pub(super) const fn at(place: &'static CStr) -> Self {
        Self {
            place,
            numbers: [const { Cell::new(0) }; MOST],
            used: Cell::new(0),
        }
    }

    pub(super) fn add(&self, mount: BorrowedFd<'_>) -> Result<(), Errno> {
        self.know(number(mount)?);
        Ok(())
    }

    fn know(&self, number: u64) {
        let used = self.used.get();
        if let Some(free) = self.numbers.get(used) {
            free.set(number);
            self.used.set(used + 1);
        }
    }

    /// Checks that an opened file is on one of the container's mounts.
    ///
    /// # Errors
    /// EXDEV where the file is on another mount.
    pub(super) fn check(&self, place: BorrowedFd<'_>) -> Result<(), Errno> {
        if !guarded(Guard::RootLookup) {
            return Ok(());
        }
        let number = number(place)?;
        let mut known = self.numbers.iter().take(self.used.get());
        if known.any(|known| known.get() == number) {
            return Ok(());
        }
        // A recursive bind mount brings mounts with it that were never added.
        if !self.is_below(place)? {
            return Err(Errno::XDEV);
        }
        self.know(number);
        Ok(())
    }

    /// Tells whether the path that the kernel writes for an opened file begins with the path of the container's root.
    fn is_below(&self, place: BorrowedFd<'_>) -> Result<bool, Errno> {
        const FIRST_BYTES: usize = 64;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = openat(CWD, c"/proc/self/fd", flags, Mode::empty())?;
        let mut path = [0u8; FIRST_BYTES];
        let name = DecInt::new(place.as_raw_fd());
        let length = readlinkat_raw(descriptors, name.as_c_str(), &mut path)?;
        let rest = path
            .get(..length)
            .and_then(|path| path.strip_prefix(self.place.to_bytes()));
        Ok(rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/'))))
    }
}

/// Returns the id of the mount that an opened file is on.
fn number(place: BorrowedFd<'_>) -> Result<u64, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(place, c"", flags, StatxFlags::MNT_ID)?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Errno::NOSYS);
    }
    Ok(found.stx_mnt_id)
}
