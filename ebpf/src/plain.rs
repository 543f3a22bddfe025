//! Plain cgroups: cgroups that belong to no container, as most of a host's. At their events, the programs skip the
//! lookup of a baseline, and the lookup of an init process in a cgroup that never had one. A map lookup costs as much
//! as the rest of an event.
//!
//! That a cgroup has no baseline holds for an epoch. An epoch ends whenever a cgroup becomes a container's.

use agent_ebpf::{CgroupKey, Counts};
use aya_ebpf::{macros::map, maps::Array};

use crate::{counts, escape};

/// The number of the epoch. No two epochs have the same number.
#[map]
static EPOCH: Array<u64> = Array::with_max_entries(1, 0);

/// Ends the epoch, because a cgroup has become a container's.
#[inline(always)]
pub fn end_epoch() {
    if let Some(epoch) = EPOCH.get_ptr_mut(0) {
        counts::add(epoch, 1);
    }
}

/// Whether `cgroup`, whose counts are `counts`, has no baseline.
#[inline(always)]
pub fn is_outside(counts: *mut Counts, cgroup: &CgroupKey) -> bool {
    // SAFETY: `counts` points to a map's value, which is valid while the program runs. Two CPUs may write `plain` at
    // once, but each of them has looked before.
    let counts = unsafe { &mut *counts };
    // The epoch is read before the lookup: if it ends meanwhile, the outcome is noted for an epoch that is over.
    let epoch = EPOCH.get(0).copied().unwrap_or_default();
    if counts.plain != epoch {
        if escape::is_inside(cgroup) {
            return false;
        }
        if !counts::is_shared(counts) {
            counts.plain = epoch;
        }
    }
    true
}

/// Whether the cgroup whose counts are `counts` has, or had, an init process; always true for [`agent_ebpf::SHARED`] counts.
#[inline(always)]
pub fn had_first(counts: *mut Counts) -> bool {
    // SAFETY: `counts` points to a map's value, which is valid while the program runs.
    unsafe { (*counts).had_first != 0 }
}

/// Notes that the cgroup whose counts are `counts` has an init process.
#[inline(always)]
pub fn has_first(counts: *mut Counts) {
    // SAFETY: `counts` points to a map's value, which is valid while the program runs. Programs never write another bit
    // into this field.
    unsafe { (*counts).had_first |= 1 };
}
