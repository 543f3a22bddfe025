//! The frequent events: forks, execs and exits. The kernel side sends them only while a watcher wants them.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use agent_ebpf::{CgroupKey, FREQUENT_BYTES, FREQUENT_RINGS, RecordKind, WANTED_FILTERED};
use agent_host::system::cpus;
use agent_sys::Plain;
use agent_sys::ring::Ring;
use aya::maps::{Array, HashMap, MapData, MapError};

use super::object::{BpfObject, ObjectError};
use crate::decode;

/// How many rings the CPUs of this host share: a power of two.
pub fn rings() -> u32 {
    let cpus = cpus(Path::new("/")).and_then(|cpus| u32::try_from(cpus).ok());
    cpus.unwrap_or(1)
        .clamp(1, FREQUENT_RINGS)
        .next_power_of_two()
}

/// The rings of frequent records. Their memory is the kernel's alone until they are opened: mapped, its
/// pages are this process's too.
pub struct Frequent {
    rings: Vec<OwnedFd>,
}

impl Frequent {
    pub(super) fn new(object: &mut BpfObject) -> Self {
        let rings = std::mem::take(&mut object.frequent);
        Self { rings }
    }

    /// Maps the rings. Those that are opened again go on where they were read up to: what was sent
    /// before the last reader went, and it did not read, comes first.
    ///
    /// # Errors
    /// Where no descriptor or no memory is left.
    pub fn open(&self) -> io::Result<Rings> {
        let bytes = FREQUENT_BYTES / self.rings.len() as u32;
        let map = |ring: &OwnedFd| Ring::map(ring.as_fd().try_clone_to_owned()?, bytes);
        let rings: io::Result<Vec<Ring>> = self.rings.iter().map(map).collect();
        Ok(Rings(rings?))
    }
}

/// Rings that are read as one.
pub struct Rings(Vec<Ring>);

impl Rings {
    /// What `take` makes of the oldest record in the rings; `None` if they are empty.
    ///
    /// An event may be a consequence of one on another CPU, as the end of a process follows its birth. The earlier record
    /// was in its ring first, but that ring may have been checked before. So all rings are checked again until none has an older
    /// one.
    pub fn next<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let mut oldest = self.oldest();
        loop {
            let again = self.oldest();
            if again == oldest {
                break;
            }
            oldest = again;
        }
        let (_, ring) = oldest?;
        self.0[ring].next(take)
    }

    /// The time of the oldest record that is the next in its ring, and which that is.
    fn oldest(&mut self) -> Option<(u64, usize)> {
        let rings = self.0.iter_mut().enumerate();
        let heads = rings.filter_map(|(at, ring)| Some((decode::time(ring.peek()?), at)));
        heads.min()
    }

    /// The descriptors of the rings, for poll(2).
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|ring| ring.as_fd())
    }
}

/// The maps that say which frequent events the kernel side sends.
pub struct FrequentDemand {
    wanted: Array<MapData, u64>,
    excluded: HashMap<MapData, Plain<CgroupKey>, u8>,
}

impl FrequentDemand {
    pub(super) fn new(object: &mut BpfObject) -> Result<Self, ObjectError> {
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
        kinds: impl IntoIterator<Item = RecordKind>,
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

#[cfg(test)]
mod tests {
    use agent_ebpf::Header;
    use agent_sys::as_bytes;
    use agent_sys::ring::fixture::{BYTES, memory, put};

    use super::*;

    #[test]
    fn rings_are_read_in_the_order_of_time() {
        let memories = [memory(), memory(), memory()];
        let map = |memory: &OwnedFd| Ring::map(memory.try_clone().unwrap(), BYTES as u32).unwrap();
        let mut rings = Rings(memories.iter().map(map).collect());
        let mut next = || rings.next(decode::time);
        assert_eq!(next(), None);
        let mut positions = [0; 3];
        let mut write = |ring: usize, time: u64| {
            let header = Header {
                time,
                ..Header::default()
            };
            positions[ring] = put(&memories[ring], positions[ring], as_bytes(&header), 0);
        };
        for (ring, time) in [(1, 10), (0, 20), (0, 40), (1, 30)] {
            write(ring, time);
        }
        assert_eq!([next(), next()], [Some(10), Some(20)]);
        // Later in the third ring than what is next, and older.
        write(2, 25);
        write(2, 50);
        let rest = [next(), next(), next(), next(), next()];
        assert_eq!(rest, [Some(25), Some(30), Some(40), Some(50), None]);
    }

    #[test]
    fn there_are_as_many_rings_as_one_can_mask() {
        assert!(rings().is_power_of_two() && rings() <= FREQUENT_RINGS);
    }
}
