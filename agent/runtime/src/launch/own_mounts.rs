//! Checks that a path is on a mount of the container.
//!
//! The host's root can be reached from the container's root until the last step, because a user namespace may mount
//! `/proc` only while it sees another one. No look-up leads to the host; this check shows that none has.

use std::cell::Cell;
use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use agent_host::faults::{Guard, guarded};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, readlinkat_raw, statx};
use rustix::io::Errno;
use rustix::path::DecInt;

/// Mounts that are known by their number. Of others the kernel is asked where they are.
const MOST: usize = 64;

/// The mounts of a container's root, and those that were attached in it.
#[derive(Debug)]
pub(super) struct OwnMounts {
    /// Where the root is attached in the launcher's tree of mounts, until it is the root.
    place: &'static CStr,
    numbers: [Cell<u64>; MOST],
    used: Cell<usize>,
}

impl OwnMounts {
    /// None yet.
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

    /// # Errors
    /// EXDEV where the place is on a mount of somebody else.
    pub(super) fn check(&self, place: BorrowedFd<'_>) -> Result<(), Errno> {
        if !guarded(Guard::RootLookup) {
            return Ok(());
        }
        let number = number(place)?;
        let mut known = self.numbers.iter().take(self.used.get());
        if known.any(|known| known.get() == number) {
            return Ok(());
        }
        // Mounts below a directory that was mounted with all below it.
        if !self.is_below(place)? {
            return Err(Errno::XDEV);
        }
        self.know(number);
        Ok(())
    }

    /// Whether the kernel finds the root on the way up from this place, which it writes as a path of the launcher's tree.
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

/// The mount that something is on.
fn number(place: BorrowedFd<'_>) -> Result<u64, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(place, c"", flags, StatxFlags::MNT_ID)?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Errno::NOSYS);
    }
    Ok(found.stx_mnt_id)
}
