//! The only writer of the ring. What it cannot send it counts, kind by kind.

use agent_ebpf::{
    Counts, Header, KINDS, Kind, OOM_RESERVE, Outcomes, RARE_RING_BYTES, RARE_RING_RESERVE,
};
use aya_ebpf::{
    helpers::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{PerCpuArray, RingBuf},
};

use crate::{counts, task};

/// Records of namespace calls, OOM kills, and cgroups.
#[map]
static RARE: RingBuf = RingBuf::with_byte_size(RARE_RING_BYTES, 0);

/// What became of the records, by [`Kind`].
#[map]
static OUTCOMES: PerCpuArray<Outcomes> = PerCpuArray::with_max_entries(KINDS as u32, 0);

/// `BPF_RB_CONS_POS` and `BPF_RB_PROD_POS`: up to where the ring has been read and written, in bytes
/// since it was made.
const READ: u64 = 2;
const WRITTEN: u64 = 3;

/// The counters of `kind`, with one more `seen`.
#[inline(always)]
fn see(kind: Kind) -> Option<&'static mut Outcomes> {
    let outcomes = OUTCOMES.get_ptr_mut(kind as u32)?;
    // SAFETY: a per-CPU value. A program can be interrupted by another one only in an interrupt,
    // and none of the hooks is in one.
    let outcomes = unsafe { &mut *outcomes };
    outcomes.seen += 1;
    Some(outcomes)
}

/// Counts an event that nobody asked for.
#[inline(always)]
pub fn unwanted(kind: Kind) {
    if let Some(outcomes) = see(kind) {
        outcomes.unwanted += 1;
    }
}

/// Counts an event of which nothing could be kept.
#[inline(always)]
pub fn no_room(kind: Kind) {
    if let Some(outcomes) = see(kind) {
        outcomes.no_room += 1;
    }
}

/// Sends a record of `kind`: the header is filled here, the rest by `fill`, which must write every
/// field.
#[inline(always)]
pub fn send<T: 'static>(kind: Kind, fill: impl FnOnce(*mut T)) {
    let Some(outcomes) = see(kind) else { return };
    submit(kind, outcomes, fill);
}

/// Likewise, but what the ring has left is kept for OOM kills.
#[inline(always)]
pub fn send_unless_full<T: 'static>(kind: Kind, fill: impl FnOnce(*mut T)) {
    let Some(outcomes) = see(kind) else { return };
    let (read, written) = positions();
    if written - read > u64::from(RARE_RING_BYTES) - OOM_RESERVE {
        outcomes.no_room += 1;
        return;
    }
    submit(kind, outcomes, fill);
}

/// Sends a record of a namespace call, within the bounds that keep one container from flooding the
/// ring.
#[inline(always)]
pub fn send_bounded<T: 'static>(kind: Kind, counts: *mut Counts, fill: impl FnOnce(*mut T)) {
    let Some(outcomes) = see(kind) else { return };
    let (read, written) = positions();
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if !counts::may_send(counts, now, written, read) {
        outcomes.suppressed += 1;
        return;
    }
    if written - read > u64::from(RARE_RING_BYTES) - RARE_RING_RESERVE {
        outcomes.no_room += 1;
        return;
    }
    submit(kind, outcomes, fill);
}

/// Up to where the ring has been read, and written. Asked for in this order, it has been written at
/// least as far as it has been read.
#[inline(always)]
fn positions() -> (u64, u64) {
    let read = RARE.query(READ);
    (read, RARE.query(WRITTEN))
}

#[inline(always)]
fn submit<T: 'static>(kind: Kind, outcomes: &mut Outcomes, fill: impl FnOnce(*mut T)) {
    let Some(mut record) = RARE.reserve::<T>(0) else {
        outcomes.no_room += 1;
        return;
    };
    let pointer = record.as_mut_ptr();
    fill_header(kind, pointer.cast());
    fill(pointer);
    record.submit(0);
    outcomes.submitted += 1;
}

#[inline(always)]
fn fill_header(kind: Kind, header: *mut Header) {
    // SAFETY: every record begins with a header.
    let header = unsafe { &mut *header };
    header.kind = kind as u32;
    header.zero = 0;
    // SAFETY: the helper has no preconditions.
    header.time = unsafe { bpf_ktime_get_boot_ns() };
    task::capture(task::current(), &raw mut header.task);
}
