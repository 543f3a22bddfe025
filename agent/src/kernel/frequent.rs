//! The frequent events: forks, execs and exits, which are sent only while somebody wants them.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use agent_ebpf::{CgroupKey, FREQUENT_RING_BYTES, Kind, WANTED_FILTERED};
use aya::maps::{Array, HashMap, MapData, MapError};

use super::object::{Object, ObjectError};
use crate::sys::Plain;
use crate::sys::ring::Ring;

/// The ring of frequent records. Its memory is the kernel's alone until it is opened: mapped, its
/// pages are this process's too.
pub struct Frequent {
    ring: OwnedFd,
}

impl Frequent {
    pub(super) fn new(object: &mut Object) -> Result<Self, ObjectError> {
        let ring = object.take_ring("FREQUENT")?;
        Ok(Self { ring })
    }

    /// Maps the ring. A ring that is opened again goes on where it was read up to: what was sent
    /// before the last reader went, and it did not read, comes first.
    ///
    /// # Errors
    /// Where no descriptor or no memory is left.
    pub fn open(&self) -> io::Result<Ring> {
        let descriptor = self.ring.as_fd().try_clone_to_owned()?;
        Ring::map(descriptor, FREQUENT_RING_BYTES)
    }
}

/// What is wanted of the frequent events.
pub struct Wanted {
    wanted: Array<MapData, u64>,
    excluded: HashMap<MapData, Plain<CgroupKey>, u8>,
}

impl Wanted {
    pub(super) fn new(object: &mut Object) -> Result<Self, ObjectError> {
        Ok(Self {
            wanted: object.take_map("WANTED")?,
            excluded: object.take_map("EXCLUDED")?,
        })
    }

    /// Asks for the events of `kinds`, and where they are `filtered` not for those of cgroups that
    /// are excluded.
    ///
    /// # Errors
    /// Where the map cannot be written.
    pub fn set(
        &mut self,
        kinds: impl IntoIterator<Item = Kind>,
        filtered: bool,
    ) -> Result<(), MapError> {
        let kinds = kinds.into_iter();
        let bits = kinds.fold(0, |bits, kind| bits | 1u64 << kind as u32);
        let filter = if filtered { WANTED_FILTERED } else { 0 };
        self.wanted.set(0, bits | filter, 0)
    }

    /// Events of the cgroup are not wanted, wherever they are filtered.
    ///
    /// # Errors
    /// Where the map is full: the cgroup's events go on to come.
    pub fn exclude(&mut self, cgroup: CgroupKey) -> Result<(), MapError> {
        self.excluded.insert(Plain(cgroup), 1, 0)
    }

    /// Events of the cgroup are wanted again, or the cgroup is gone.
    pub fn include(&mut self, cgroup: CgroupKey) {
        // One that was not excluded cannot be removed.
        let _ = self.excluded.remove(&Plain(cgroup));
    }
}
