//! Which frequent events a watcher wants. The programs always count forks, execs and exits, and send records of them
//! only while a watcher wants them.

use agent_ebpf::{COUNTED_CGROUPS, CgroupKey, RecordKind, WANTED_FILTERED};
use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap},
};

/// Bits `1 << RecordKind` of the kinds that a watcher wants, and [`WANTED_FILTERED`].
#[map]
static WANTED: Array<u64> = Array::with_max_entries(1, 0);

/// The cgroups whose events no watcher wants. The events of any other cgroup are sent, also those of a new cgroup that
/// the agent does not know yet.
#[map]
static EXCLUDED: HashMap<CgroupKey, u8> =
    HashMap::with_max_entries(COUNTED_CGROUPS, BPF_F_NO_PREALLOC);

/// Whether a watcher wants events of one kind.
#[derive(Clone, Copy)]
pub struct KindDemand(u64);

impl KindDemand {
    /// Reads whether a watcher wants events of `kind` now.
    #[inline(always)]
    pub fn of(kind: RecordKind) -> Self {
        let wanted = WANTED.get(0).copied().unwrap_or_default();
        if wanted & (1 << kind as u32) == 0 {
            Self(0)
        } else {
            Self(wanted)
        }
    }

    /// Whether the events are wanted from at least one cgroup.
    #[inline(always)]
    pub fn anywhere(self) -> bool {
        self.0 != 0
    }

    /// Whether the events are wanted from the tasks of `cgroup`.
    #[inline(always)]
    pub fn from(self, cgroup: &CgroupKey) -> bool {
        self.anywhere() && (self.0 & WANTED_FILTERED == 0 || EXCLUDED.get_ptr(cgroup).is_none())
    }
}
