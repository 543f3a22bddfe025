//! The maps in which the BPF programs keep counters, init processes and baselines.

use agent_ebpf::{
    Baseline, CONSTRAINTS, CgroupKey, Constraint, Counts, OVERFLOW, ProcessKey, RecordKind,
    RecordOutcomes, SHARED, Task, WATCHED_BELOW,
};
use agent_sys::Plain;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};

use super::lent::Lent;
use super::object::{BpfObject, ObjectError};

/// Why a counter cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
pub enum CountsError {
    #[error(transparent)]
    BpfObject(#[from] ObjectError),
    #[error("a BPF map cannot be used")]
    Map(#[from] MapError),
}

/// The OOM kills on the host, by what was short.
pub type OomKills = [(Constraint, u64); CONSTRAINTS];

/// `BPF_NOEXIST` (`include/uapi/linux/bpf.h`).
const NOEXIST: u64 = 1;

/// The maps, as the agent reads and writes them.
pub struct KernelCounts {
    counts: HashMap<MapData, Plain<CgroupKey>, Plain<Counts>>,
    inits: HashMap<MapData, Plain<CgroupKey>, Plain<ProcessKey>>,
    firsts: HashMap<MapData, Plain<ProcessKey>, Plain<CgroupKey>>,
    baselines: HashMap<MapData, Plain<CgroupKey>, Plain<Baseline>>,
    below: HashMap<MapData, Plain<CgroupKey>, Plain<CgroupKey>>,
    lent: Lent,
    /// The cgroups whose lent entries were taken back: their escapes are not reported.
    taken_back: std::collections::HashSet<CgroupKey>,
    epoch: Array<MapData, u64>,
    kills: HashMap<MapData, Plain<CgroupKey>, u64>,
    outcomes: PerCpuArray<MapData, Plain<RecordOutcomes>>,
    oom_kills: Array<MapData, u64>,
}

impl KernelCounts {
    /// Takes the maps out of `object`, and makes the shared entry of the cgroups that have no entry of their own.
    ///
    /// # Errors
    /// A map is missing, is of another type, or cannot be written.
    pub fn new(object: &mut BpfObject) -> Result<Self, CountsError> {
        let mut counts = Self {
            counts: object.take_map("COUNTS")?,
            inits: object.take_map("INITS")?,
            firsts: object.take_map("FIRSTS")?,
            baselines: object.take_map("BASELINES")?,
            below: object.take_map("BELOW")?,
            lent: Lent::default(),
            taken_back: Default::default(),
            epoch: object.take_map("EPOCH")?,
            kills: object.take_map("KILLS")?,
            outcomes: object.take_map("OUTCOMES")?,
            oom_kills: object.take_map("OOM_KILLS")?,
        };
        counts.end_epoch()?;
        let shared = Counts {
            had_first: SHARED,
            ..Counts::default()
        };
        match counts
            .counts
            .insert(Plain(OVERFLOW), Plain(shared), NOEXIST)
        {
            Ok(()) => Ok(counts),
            // A pinned map has the entry already.
            Err(_) if counts.counts.get(&Plain(OVERFLOW), 0).is_ok() => Ok(counts),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the counts of every cgroup that has an entry, and the shared counts of those that have none.
    pub fn all(&self) -> (std::collections::HashMap<CgroupKey, Counts>, Counts) {
        // If programs add entries during the iteration, an entry may be read twice, or only at the next call.
        let mut all: std::collections::HashMap<_, _> = self
            .counts
            .iter()
            .filter_map(Result::ok)
            .map(|(key, counts)| (key.0, counts.0))
            .collect();
        for key in &self.taken_back {
            all.entry(*key).or_default().unwatched += 1;
        }
        let overflow = all.remove(&OVERFLOW).unwrap_or_default();
        (all, overflow)
    }

    /// Returns every cgroup that has an entry in a map.
    pub fn cgroups(&self) -> std::collections::HashSet<CgroupKey> {
        let counted = self.counts.keys();
        let others = self.inits.keys().chain(self.kills.keys());
        let others = others.chain(self.baselines.keys()).chain(self.below.keys());
        let keys = counted.chain(others).filter_map(Result::ok);
        keys.map(|Plain(key)| key)
            .filter(|key| *key != OVERFLOW)
            .collect()
    }

    /// Removes a cgroup that is gone from all maps, and returns its counts.
    pub fn take(&mut self, key: CgroupKey) -> Counts {
        let counts = self.counts.get(&Plain(key), 0);
        let mut counts = counts.map(|Plain(counts)| counts).unwrap_or_default();
        counts.unwatched += u64::from(self.taken_back.remove(&key));
        // A removal fails only where there is no entry.
        let _ = self.counts.remove(&Plain(key));
        let _ = self.below.remove(&Plain(key));
        let _ = self.kills.remove(&Plain(key));
        self.lent.remove(key);
        self.forget_first(key);
        counts
    }

    /// Removes a cgroup's init process and baseline from the maps.
    fn forget_first(&mut self, key: CgroupKey) {
        if let Ok(init) = self.inits.get(&Plain(key), 0) {
            let _ = self.firsts.remove(&init);
        }
        let _ = self.inits.remove(&Plain(key));
        let _ = self.baselines.remove(&Plain(key));
    }

    /// Notes that the entries of a cgroup are lent to `borrower`.
    ///
    /// While too many entries are lent, the borrower with the most loses its oldest ones: this removes the init process
    /// and baseline of such a cgroup, unless `is_lent` says that its entries are not lent any more.
    pub fn lend(&mut self, key: CgroupKey, borrower: u64, is_lent: impl Fn(CgroupKey) -> bool) {
        self.taken_back.remove(&key);
        self.lent.lend(key, borrower);
        while let Some(surplus) = self.lent.surplus() {
            if is_lent(surplus) {
                self.forget_first(surplus);
                self.taken_back.insert(surplus);
            }
        }
    }

    /// Notes that the entries of a cgroup are not lent, because it belongs to a container of root.
    pub fn give(&mut self, key: CgroupKey) {
        self.lent.remove(key);
        self.taken_back.remove(&key);
    }

    /// Sets how many OOM kills the kernel has counted in a cgroup before the programs are attached. The programs count
    /// the kills beyond this number.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_oom_kills(&mut self, key: CgroupKey, kills: u64) -> Result<(), CountsError> {
        Ok(self.kills.insert(Plain(key), kills, 0)?)
    }

    /// Sets the init process of a cgroup that is older than the programs.
    pub fn set_init(&mut self, key: CgroupKey, task: &Task) {
        let init = ProcessKey {
            start_time: task.start_time,
            pid: task.pid,
            zero: 0,
        };
        // An entry that the programs or an earlier process of the agent made is kept.
        if self.inits.insert(Plain(key), Plain(init), NOEXIST).is_ok() {
            let _ = self.firsts.insert(Plain(init), Plain(key), 0);
        }
    }

    /// Sets the baseline of a container that is older than the programs. The cgroups `below` the container's share it,
    /// the first [`WATCHED_BELOW`] of them.
    pub fn set_baseline(&mut self, baseline: Baseline, below: impl Iterator<Item = CgroupKey>) {
        let own = baseline.cgroup;
        // An entry that the programs or an earlier process of the agent made is kept.
        let _ = self.baselines.insert(Plain(own), Plain(baseline), NOEXIST);
        for key in below.filter(|key| *key != own).take(WATCHED_BELOW as usize) {
            let _ = self.below.insert(Plain(key), Plain(own), NOEXIST);
        }
        // A write to an array does not fail for want of room.
        let _ = self.end_epoch();
    }

    /// Makes the programs look up again whether a cgroup has a baseline.
    fn end_epoch(&mut self) -> Result<(), MapError> {
        self.epoch.set(0, super::unique(), 0)
    }

    /// Removes the baseline of a cgroup that belongs to no container: its processes cannot escape.
    pub fn forget_baseline(&mut self, key: CgroupKey) {
        // The removal fails only where there is no baseline.
        let _ = self.baselines.remove(&Plain(key));
        self.lent.remove(key);
    }

    /// Returns the outcomes of the records of `kind`, summed over all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn outcomes(&self, kind: RecordKind) -> Result<RecordOutcomes, CountsError> {
        let cpus = self.outcomes.get(&(kind as u32), 0)?;
        Ok(cpus
            .iter()
            .fold(RecordOutcomes::default(), |sum, Plain(cpu)| {
                RecordOutcomes {
                    seen: sum.seen + cpu.seen,
                    submitted: sum.submitted + cpu.submitted,
                    no_room: sum.no_room + cpu.no_room,
                    unwanted: sum.unwanted + cpu.unwanted,
                    suppressed: sum.suppressed + cpu.suppressed,
                }
            }))
    }

    /// Returns the OOM kills on the host, by what was short.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn oom_kills(&self) -> Result<OomKills, CountsError> {
        let mut kills = [(Constraint::None, 0); CONSTRAINTS];
        for (slot, constraint) in kills.iter_mut().zip(Constraint::ALL) {
            *slot = (*constraint, self.oom_kills.get(&(*constraint as u32), 0)?);
        }
        Ok(kills)
    }
}
