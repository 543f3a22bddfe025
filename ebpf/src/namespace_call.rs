//! The calls that make or enter namespaces, for all mechanisms that hook them.
//!
//! At the beginning of an unshare(2) or setns(2), [`begin`] stores the caller's namespaces; at its end, [`end`] counts
//! the call and sends the record. A clone(2) or clone3(2) is counted and sent by [`cloned`].
//!
//! If any tracer attaches to the function or detaches from it during the call, the kernel skips the programs at the
//! function's end (`bpf_tramp_image_put`, `kernel/bpf/trampoline.c`). It never skips those at a function's beginning.
//! So a call that succeeds is counted at the beginning of the last function that it runs (`perf_event_namespaces`).

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

/// The calls under way, by pid and tid: what [`begin`] stores for [`end`].
#[map]
static PENDING: HashMap<u64, PendingCall> = HashMap::with_max_entries(16_384, 0);

/// The number of entries in [`PENDING`]. It is mostly 0, and then no lookup there is needed at the exits of threads,
/// nor at forks, which run `perf_event_namespaces` too.
#[map]
static UNDER_WAY: Array<u64> = Array::with_max_entries(1, 0);

/// The running task's call of `kind`, with these flags, begins.
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

/// The running task's call of `kind` ends with `result`: 0, or a negative errno. Counts it and sends its record, once.
#[inline(always)]
pub fn end(result: i64, kind: RecordKind, call: Call) {
    if !active() {
        return;
    }
    let thread = bpf_get_current_pid_tgid();
    let pending = match pending(thread) {
        // Both kinds of calls run `perf_event_namespaces`, so the programs there see those of the other kind too.
        Some(pending) if pending.kind == kind as u64 => *pending,
        // `begin` found no room for the call, the call began before the programs were attached, or it is counted.
        _ => return,
    };
    take(thread);
    finish(&pending, result, kind, call);
}

/// Counts the last call of the running thread as lost if no program saw its end. The thread calls again, or exits.
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

/// Removes the call under way of a thread.
#[inline(always)]
fn take(thread: u64) {
    if PENDING.remove(thread).is_ok() {
        count_under_way(u64::MAX);
    }
}

/// Adds `n` to the number of calls under way; `u64::MAX` subtracts 1.
#[inline(always)]
fn count_under_way(n: u64) {
    if let Some(calls) = UNDER_WAY.get_ptr_mut(0) {
        counts::add(calls, n);
    }
}

/// Counts and sends a call of the running task that ended with `result`, and checks the task for escapes.
#[inline(always)]
fn finish(pending: &PendingCall, result: i64, kind: RecordKind, call: Call) {
    // unshare(2) can also unshare other things than namespaces, such as the file descriptors (CLONE_FILES).
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
        // Flags of 0 let setns(2) enter a namespace of any type, so the change says which one it was.
        0 if result == 0 => changed(&pending.before),
        types => types,
    };
    counts::call(counts, call, types, result < 0);
    // SAFETY: `counts` points to a map's value, which is valid while the program runs.
    let bounds = (unsafe { &raw mut (*counts).calls_sent }, CALL_BOUNDS);
    emit::send_bounded(kind, current, bounds, |record: *mut NamespaceCallRecord| {
        // SAFETY: `record` points to memory reserved in the ring.
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

/// Counts and sends a clone(2) or clone3(2) of the running task, which made `child` with these flags, at least one of
/// them a `CLONE_NEW*` flag. A clone that fails is not seen.
#[inline(always)]
pub fn cloned(child: Probed, flags: u64) {
    let current = task::current();
    let key = task::counted_cgroup(current);
    let Some(counts) = counts::of(&key) else {
        return;
    };
    counts::call(counts, Call::Clone, flags, false);
    // SAFETY: `counts` points to a map's value, which is valid while the program runs.
    let bounds = (unsafe { &raw mut (*counts).calls_sent }, CALL_BOUNDS);
    emit::send_bounded(
        RecordKind::Clone,
        current,
        bounds,
        |record: *mut CloneRecord| {
            // SAFETY: `record` points to memory reserved in the ring.
            unsafe {
                task::capture(child, &raw mut (*record).child);
                (*record).flags = flags & CLONE_NEW_ANY;
            }
        },
    );
}

/// The `CLONE_NEW*` flags of the types in which the running task's namespace is another than `before`.
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
