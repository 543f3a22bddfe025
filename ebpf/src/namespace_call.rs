//! Calls that make or enter namespaces, whatever hooks them. A call of unshare(2) or setns(2) leaves something at its
//! beginning, and is counted and sent at its end; clone(2) and clone3(2) come here once.
//!
//! The end is missed where any tracer attaches to the function or detaches from it meanwhile: the kernel then skips the
//! programs there are at its end (`bpf_tramp_image_put`, `kernel/bpf/trampoline.c`). Programs at a function's beginning it never
//! skips so. That is why a call that succeeded is counted at the beginning of what such a call does last.

use agent_ebpf::{
    CALL_BOUNDS, CLONE_NEW_ANY, Call, CloneRecord, How, NAMESPACE_TYPES, NamespaceCallRecord,
    NamespaceInodes, NamespaceType, PendingCall, RecordKind,
};
use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{Array, HashMap},
};
use aya_log_ebpf::debug;

use crate::{
    config::active,
    counts, emit, escape,
    task::{self, Probed},
};

/// Calls under way, by pid and tid: the beginning leaves here what the end needs.
#[map]
static PENDING: HashMap<u64, PendingCall> = HashMap::with_max_entries(16_384, 0);

/// The number of entries in [`PENDING`]. Where it is 0, as mostly, nothing is looked for there at each birth and exit.
#[map]
static UNDER_WAY: Array<u64> = Array::with_max_entries(1, 0);

/// The running task's call, with these flags, begins.
#[inline(always)]
pub fn begin<C: EbpfContext>(ctx: &C, flags: u64, kind: RecordKind) {
    if !active() {
        return;
    }
    let mut pending = PendingCall {
        before: Default::default(),
        flags,
        kind: kind as u64,
    };
    task::capture_namespaces(task::current(), &mut pending.before);
    lose();
    let thread = bpf_get_current_pid_tgid();
    if PENDING.insert(thread, pending, 0).is_ok() {
        count_under_way(1);
        return;
    }
    emit::no_room(kind);
    debug!(
        ctx,
        "no room for a call under way of thread {}", thread as u32
    );
}

/// The running task's call, of which `begin` was told, ends with `result`.
#[inline(always)]
pub fn end(result: i64, kind: RecordKind, call: Call) {
    if !active() {
        return;
    }
    let thread = bpf_get_current_pid_tgid();
    let pending = match pending(thread) {
        // A call of the other kind comes by where both do the same.
        Some(pending) if pending.kind == kind as u64 => *pending,
        // The call found no room, began before the programs were attached, or is counted.
        _ => return,
    };
    take(thread);
    finish(&pending, result, kind, call);
}

/// The running thread calls again, or exits. If no program saw how its last call ended, that call is lost.
#[inline(always)]
pub fn lose() {
    let thread = bpf_get_current_pid_tgid();
    let Some(pending) = pending(thread) else {
        return;
    };
    if pending.kind == RecordKind::Setns as u64 {
        emit::no_room(RecordKind::Setns);
    } else {
        emit::no_room(RecordKind::Unshare);
    }
    take(thread);
}

/// The call under way of the running thread.
#[inline(always)]
fn pending(thread: u64) -> Option<&'static PendingCall> {
    if UNDER_WAY.get(0).is_none_or(|calls| *calls == 0) {
        return None;
    }
    // SAFETY: only this thread writes this key.
    unsafe { PENDING.get(thread) }
}

/// Removes a thread's call under way.
#[inline(always)]
fn take(thread: u64) {
    if PENDING.remove(thread).is_ok() {
        count_under_way(u64::MAX);
    }
}

#[inline(always)]
fn count_under_way(n: u64) {
    if let Some(calls) = UNDER_WAY.get_ptr_mut(0) {
        counts::add(calls, n);
    }
}

/// The running task's call ended with `result`.
#[inline(always)]
fn finish(pending: &PendingCall, result: i64, kind: RecordKind, call: Call) {
    // unshare also unshares other things than namespaces (files, CLONE_FS).
    if matches!(call, Call::Unshare) && pending.flags & CLONE_NEW_ANY == 0 && result >= 0 {
        emit::unwanted(kind);
        return;
    }
    let current = task::current();
    let key = task::counted_cgroup(current);
    let Some(counts) = counts::of(&key) else {
        return;
    };
    let types = match pending.flags & CLONE_NEW_ANY {
        // setns takes a file of any type then.
        0 if result == 0 => changed(&pending.before),
        types => types,
    };
    counts::call(counts, call, types, result < 0);
    // SAFETY: a map's value.
    let bounds = (unsafe { &raw mut (*counts).calls_sent }, CALL_BOUNDS);
    emit::send_bounded(kind, current, bounds, |record: *mut NamespaceCallRecord| {
        // SAFETY: `record` is the ring's.
        unsafe {
            (*record).before = pending.before;
            (*record).flags = pending.flags & CLONE_NEW_ANY;
            (*record).result = result;
        }
    });
    if result >= 0 {
        let how = match call {
            Call::Setns => How::Setns,
            Call::Clone | Call::Unshare => How::Unshare,
        };
        escape::check(current, &key, how);
    }
}

/// The running task made `child` with these flags, some of which ask for namespaces. A clone that fails does not come here.
#[inline(always)]
pub fn cloned(child: Probed, flags: u64) {
    let current = task::current();
    let key = task::counted_cgroup(current);
    let Some(counts) = counts::of(&key) else {
        return;
    };
    counts::call(counts, Call::Clone, flags, false);
    // SAFETY: a map's value.
    let bounds = (unsafe { &raw mut (*counts).calls_sent }, CALL_BOUNDS);
    emit::send_bounded(
        RecordKind::Clone,
        current,
        bounds,
        |record: *mut CloneRecord| {
            // SAFETY: `record` is the ring's.
            unsafe {
                task::capture(child, &raw mut (*record).child);
                (*record).flags = flags & CLONE_NEW_ANY;
            }
        },
    );
}

/// The flags of the types in which the current task is no longer where it was.
#[inline(always)]
fn changed(before: &NamespaceInodes) -> u64 {
    let mut after = Default::default();
    task::capture_namespaces(task::current(), &mut after);
    let mut types = 0;
    let mut i = 0;
    while i < NAMESPACE_TYPES {
        let namespace = NamespaceType::ALL[i].namespace() as usize;
        if before[namespace] != after[namespace] {
            types |= NamespaceType::ALL[i].clone_flag();
        }
        i += 1;
    }
    types
}
