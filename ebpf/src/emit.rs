//! The only writer of the rings. It counts the records that it cannot send, by kind.

use agent_ebpf::{
    FREQUENT_RINGS, FREQUENT_WAKE_BYTES, Header, KINDS, OOM_RESERVE, RARE_RING_BYTES, RareBounds,
    RecordKind, RecordOutcomes, Sent,
};
use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RINGBUF_HDR_SZ},
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};

use crate::{
    config::config,
    counts,
    task::{self, Pointer},
};

/// Records of namespace calls, OOM kills, cgroups, init processes and escapes.
#[map]
static RARE: RingBuf = RingBuf::with_byte_size(RARE_RING_BYTES, 0);

/// The rings of forks, execs and exits that a watcher wants. CPUs share the rings: a CPU takes half a microsecond to
/// fetch a cache line that another CPU wrote, and each record writes to three lines of its ring.
///
/// The agent makes this an array of maps, for which aya has no type. It maps the rings' memory only while a watcher
/// reads them.
#[map]
static FREQUENT: Array<u32> = Array::with_max_entries(FREQUENT_RINGS, 0);

/// The outcomes of records, by [`RecordKind`].
#[map]
static OUTCOMES: PerCpuArray<RecordOutcomes> = PerCpuArray::with_max_entries(KINDS as u32, 0);

/// `BPF_RB_AVAIL_DATA` (`include/uapi/linux/bpf.h`): the bytes written and not yet read.
const UNREAD: u64 = 0;

/// `BPF_RB_CONS_POS` and `BPF_RB_PROD_POS` (`include/uapi/linux/bpf.h`): the positions up to which the ring has been
/// read and written, in bytes since it was made.
const READ: u64 = 2;
const WRITTEN: u64 = 3;

/// Adds one to a counter of [`RecordOutcomes`]. The addition is atomic: the kernel can preempt some programs, such as
/// those of trampolines, and another program on the same CPU may then add to the counter.
macro_rules! count {
    ($outcomes:ident.$counter:ident) => {
        // SAFETY: the pointer is to a map's value, which is valid while the program runs.
        counts::add(unsafe { &raw mut (*$outcomes).$counter }, 1)
    };
}

/// Counts a record of `kind` as `seen`, and returns the counters of `kind` on this CPU.
#[inline(always)]
fn see(kind: RecordKind) -> Option<*mut RecordOutcomes> {
    let outcomes = OUTCOMES.get_ptr_mut(kind as u32)?;
    count!(outcomes.seen);
    Some(outcomes)
}

/// Counts an event that no watcher wants.
#[inline(always)]
pub fn unwanted(kind: RecordKind) {
    if let Some(outcomes) = see(kind) {
        count!(outcomes.unwanted);
    }
}

/// Counts a record that is lost because a ring or a map is full.
#[inline(always)]
pub fn no_room(kind: RecordKind) {
    if let Some(outcomes) = see(kind) {
        count!(outcomes.no_room);
    }
}

/// Sends a record of `kind`. This function fills the header, with the running task as the caller; `fill` must write
/// every other field.
#[inline(always)]
pub fn send<T: 'static>(kind: RecordKind, fill: impl FnOnce(*mut T)) {
    let Some(outcomes) = see(kind) else { return };
    submit(kind, task::current(), outcomes, fill);
}

/// Sends a rare record, unless only the reserve for OOM kills is left in the ring. `fill` must write every field
/// behind the header.
#[inline(always)]
pub fn send_unless_full<T: 'static, const TYPED: bool>(
    kind: RecordKind,
    caller: Pointer<TYPED>,
    fill: impl FnOnce(*mut T),
) {
    let Some(outcomes) = see(kind) else { return };
    let (read, written) = positions();
    if written - read > u64::from(RARE_RING_BYTES) - OOM_RESERVE {
        count!(outcomes.no_room);
        return;
    }
    submit(kind, caller, outcomes, fill);
}

/// Sends a rare record, unless the cgroup that has `sent` would exceed its bounds or the ring is full up to the
/// bounds' reserve. The bounds keep one container from flooding the ring.
///
/// Returns whether the record is in the ring.
#[inline(always)]
pub fn send_bounded<T: 'static, const TYPED: bool>(
    kind: RecordKind,
    caller: Pointer<TYPED>,
    (sent, bounds): (*mut Sent, RareBounds),
    fill: impl FnOnce(*mut T),
) -> bool {
    let Some(outcomes) = see(kind) else {
        return false;
    };
    let (read, written) = positions();
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if !counts::may_send(sent, bounds, now, written, read) {
        count!(outcomes.suppressed);
        return false;
    }
    if written - read > u64::from(RARE_RING_BYTES) - bounds.reserve {
        count!(outcomes.no_room);
        return false;
    }
    submit(kind, caller, outcomes, fill)
}

/// The positions up to which the rare ring has been read and written.
///
/// The read position is queried first, so that it is never above the written position.
#[inline(always)]
fn positions() -> (u64, u64) {
    let read = RARE.query(READ);
    (read, RARE.query(WRITTEN))
}

/// Sends a record to the rare ring. Returns whether there was room.
#[inline(always)]
fn submit<T: 'static, const TYPED: bool>(
    kind: RecordKind,
    caller: Pointer<TYPED>,
    outcomes: *mut RecordOutcomes,
    fill: impl FnOnce(*mut T),
) -> bool {
    let Some(mut record) = RARE.reserve::<T>(0) else {
        count!(outcomes.no_room);
        return false;
    };
    let pointer = record.as_mut_ptr();
    fill_header(kind, caller, pointer.cast());
    fill(pointer);
    record.submit(0);
    count!(outcomes.submitted);
    true
}

/// Sends a record of a frequent event to this CPU's ring. `fill` must write every field behind the header.
#[inline(always)]
pub fn send_frequent<T: 'static, const TYPED: bool>(
    kind: RecordKind,
    caller: Pointer<TYPED>,
    fill: impl FnOnce(*mut T),
) {
    let Some(outcomes) = see(kind) else { return };
    let Some(ring) = ring_of_cpu() else {
        count!(outcomes.no_room);
        return;
    };
    let Some(mut record) = ring.reserve::<T>(0) else {
        count!(outcomes.no_room);
        return;
    };
    let pointer = record.as_mut_ptr();
    fill_header(kind, caller, pointer.cast());
    fill(pointer);
    record.submit(wake::<T>(ring));
    count!(outcomes.submitted);
}

/// The ring of frequent records that this CPU writes to.
#[inline(always)]
fn ring_of_cpu() -> Option<&'static RingBuf> {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let ring = FREQUENT.get_ptr(cpu & config!(rings_mask) as u32)?;
    // SAFETY: the kernel returns a pointer to one of the rings that the array holds. The programs only pass it to
    // helpers, as they pass the address of a static map.
    Some(unsafe { &*ring.cast::<RingBuf>() })
}

/// The flags to submit a frequent record with: only the record that crosses [`FREQUENT_WAKE_BYTES`] wakes the reader,
/// or the next record where two CPUs cross it at once.
///
/// A wake-up costs as much as several events, and the reader looks into the rings at intervals anyway.
#[inline(always)]
fn wake<T>(ring: &RingBuf) -> u64 {
    let record = (BPF_RINGBUF_HDR_SZ as u64 + size_of::<T>() as u64).next_multiple_of(8);
    let beyond = ring.query(UNREAD).wrapping_sub(FREQUENT_WAKE_BYTES);
    if beyond < 2 * record {
        BPF_RB_FORCE_WAKEUP.into()
    } else {
        BPF_RB_NO_WAKEUP.into()
    }
}

#[inline(always)]
fn fill_header<const TYPED: bool>(kind: RecordKind, caller: Pointer<TYPED>, header: *mut Header) {
    // SAFETY: `header` points to memory reserved in a ring for a record, and every record begins with a header.
    let header = unsafe { &mut *header };
    header.kind = kind as u32;
    header.zero = 0;
    // SAFETY: the helper has no preconditions.
    header.time = unsafe { bpf_ktime_get_boot_ns() };
    task::capture(caller, &raw mut header.task);
}
