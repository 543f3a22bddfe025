//! Which frequent events a watcher wants: forks, execs and exits are always counted, and sent
//! while they are asked for.

use agent_ebpf::{COUNTED_CGROUPS, CgroupKey, RecordKind, WANTED_FILTERED};
use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap},
};

/// Bits `1 << RecordKind` of the kinds that a watcher wants, and [`WANTED_FILTERED`].
#[map]
static WANTED: Array<u64> = Array::with_max_entries(1, 0);

/// The cgroups whose events nobody wants. One that is not here is sent: a cgroup that was just made
/// is, until the agent knows what it is.
#[map]
static EXCLUDED: HashMap<CgroupKey, u8> =
    HashMap::with_max_entries(COUNTED_CGROUPS, BPF_F_NO_PREALLOC);

/// Whether a watcher wants events of one kind.
#[derive(Clone, Copy)]
pub struct KindDemand(u64);

impl KindDemand {
    /// Reads what is wanted of `kind` now.
    #[inline(always)]
    pub fn of(kind: RecordKind) -> Self {
        let wanted = WANTED.get(0).copied().unwrap_or_default();
        if wanted & (1 << kind as u32) == 0 {
            Self(0)
        } else {
            Self(wanted)
        }
    }

    /// Whether it is wanted from at least one cgroup.
    #[inline(always)]
    pub fn anywhere(self) -> bool {
        self.0 != 0
    }

    /// Whether it is wanted from the tasks of `cgroup`.
    #[inline(always)]
    pub fn from(self, cgroup: &CgroupKey) -> bool {
        self.anywhere() && (self.0 & WANTED_FILTERED == 0 || EXCLUDED.get_ptr(cgroup).is_none())
    }
}
