//! Plain cgroups: those of no container, as most of a host's. Their events need not look for baselines, nor where there
//! was no init process for init processes: a look into a map costs as much as the rest of an event.
//!
//! What was found of baselines holds for an epoch, which ends whenever some cgroup becomes a container's.

use agent_ebpf::{CgroupKey, Counts, SHARED};
use aya_ebpf::{macros::map, maps::Array};

use crate::{counts, escape};

/// The epoch: a number that was not there before.
#[map]
static EPOCH: Array<u64> = Array::with_max_entries(1, 0);

/// A cgroup has become a container's.
#[inline(always)]
pub fn end_epoch() {
    if let Some(epoch) = EPOCH.get_ptr_mut(0) {
        counts::add(epoch, 1);
    }
}

/// Whether `cgroup`, which has `counts`, has no baseline.
#[inline(always)]
pub fn is_outside(counts: *mut Counts, cgroup: &CgroupKey) -> bool {
    // SAFETY: a map's value. Of two that write at once both have looked.
    let counts = unsafe { &mut *counts };
    // Read before the look: should the epoch end meanwhile, what is found holds for none.
    let epoch = EPOCH.get(0).copied().unwrap_or_default();
    if counts.plain != epoch {
        if escape::is_inside(cgroup) {
            return false;
        }
        if counts.had_first & SHARED == 0 {
            counts.plain = epoch;
        }
    }
    true
}

/// Whether an init process is, or was, in the cgroup that has `counts`.
#[inline(always)]
pub fn had_first(counts: *mut Counts) -> bool {
    // SAFETY: a map's value.
    unsafe { (*counts).had_first != 0 }
}

/// An init process is in the cgroup that has `counts`.
#[inline(always)]
pub fn has_first(counts: *mut Counts) {
    // SAFETY: a map's value, into which nothing else is ever written there.
    unsafe { (*counts).had_first |= 1 };
}
