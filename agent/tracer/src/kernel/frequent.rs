//! The rings of frequent events: forks, execs and exits. The programs send them only while a watcher wants them.

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

/// The number of rings that the CPUs of this host share: a power of two.
pub fn rings() -> u32 {
    let cpus = cpus(Path::new("/")).and_then(|cpus| u32::try_from(cpus).ok());
    cpus.unwrap_or(1)
        .clamp(1, FREQUENT_RINGS)
        .next_power_of_two()
}

/// The rings of frequent records, which are not mapped before [`Frequent::open`]: the kernel counts mapped pages as
/// memory of this process.
pub struct Frequent {
    rings: Vec<OwnedFd>,
}

impl Frequent {
    pub(super) fn new(object: &mut BpfObject) -> Self {
        let rings = std::mem::take(&mut object.frequent);
        Self { rings }
    }

    /// Maps the rings. The reading starts where the last reader stopped: the records that it left unread come first.
    ///
    /// # Errors
    /// The process has no descriptor or no memory left.
    pub fn open(&self) -> io::Result<Rings> {
        let bytes = FREQUENT_BYTES / self.rings.len() as u32;
        let map = |ring: &OwnedFd| Ring::map(ring.as_fd().try_clone_to_owned()?, bytes);
        let rings: io::Result<Vec<Ring>> = self.rings.iter().map(map).collect();
        Ok(Rings(rings?))
    }
}

/// Mapped rings that are read as one, in the order of time.
pub struct Rings(Vec<Ring>);

impl Rings {
    /// Passes the oldest record in the rings to `take`, and returns its result; `None` if the rings are empty.
    ///
    /// An event may follow from one on another CPU, as the end of a process follows from its birth. The earlier record
    /// is in its ring first, but this method may have checked that ring before the record was there. So it checks all
    /// rings again, until no ring has an older record.
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

    /// Among the records that are next in their rings: the time of the oldest, and the index of its ring.
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

/// The maps that tell the programs which frequent events to send.
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

    /// Makes the programs send the events of `kinds` and no others. If `filtered`, they leave out those of the excluded
    /// cgroups.
    ///
    /// # Errors
    /// The map cannot be written.
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

    /// Excludes a cgroup, whose events no watcher wants.
    ///
    /// # Errors
    /// The map is full: the programs still send the cgroup's events.
    pub fn exclude(&mut self, cgroup: CgroupKey) -> Result<(), MapError> {
        self.excluded.insert(Plain(cgroup), 1, 0)
    }

    /// Ends the exclusion of a cgroup, because a watcher wants its events or the cgroup is gone.
    pub fn include(&mut self, cgroup: CgroupKey) {
        // The removal fails only where the cgroup is not excluded.
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
        // These are written to the third ring after the record that is next, but the first of them is older.
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
