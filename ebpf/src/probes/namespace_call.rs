//! unshare(2) and setns(2), by the system calls' tracepoints.
//!
//! `long sys_unshare(unsigned long unshare_flags)`, `long sys_setns(int fd, int flags)`
//! (`include/linux/syscalls.h`); a tracepoint's arguments begin at byte 16. They see calls that
//! fail, with the errno, and do not see those of 32-bit programs.

use agent_ebpf::{
    CLONE_NEW_ANY, Call, How, Kind, NAMESPACE_TYPES, NamespaceCall, NamespaceType, Namespaces,
    PendingCall,
};
use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{map, tracepoint},
    maps::HashMap,
    programs::TracePointContext,
};
use aya_log_ebpf::debug;

use crate::{config::active, counts, emit, escape, task};

/// Calls under way, by pid and tid: entry leaves here what exit needs. Every entry is followed by
/// an exit, a killed task's too.
#[map]
static PENDING: HashMap<u64, PendingCall> = HashMap::with_max_entries(16_384, 0);

#[tracepoint]
pub fn unshare_enter(ctx: TracePointContext) -> u32 {
    enter(&ctx, Kind::Unshare, 16)
}

#[tracepoint]
pub fn unshare_exit(ctx: TracePointContext) -> u32 {
    exit(&ctx, Kind::Unshare, Call::Unshare)
}

#[tracepoint]
pub fn setns_enter(ctx: TracePointContext) -> u32 {
    enter(&ctx, Kind::Setns, 24)
}

#[tracepoint]
pub fn setns_exit(ctx: TracePointContext) -> u32 {
    exit(&ctx, Kind::Setns, Call::Setns)
}

#[inline(always)]
fn enter(ctx: &TracePointContext, kind: Kind, flags_at: usize) -> u32 {
    if !active() {
        return 0;
    }
    let mut pending = PendingCall {
        before: Default::default(),
        // SAFETY: the verifier bounds the offset by the tracepoint's size.
        flags: unsafe { ctx.read_at::<u64>(flags_at) }.unwrap_or_default(),
    };
    task::capture_namespaces(task::current(), &mut pending.before);
    if PENDING
        .insert(bpf_get_current_pid_tgid(), pending, 0)
        .is_err()
    {
        emit::no_room(kind);
        debug!(
            ctx,
            "no room for a call under way of thread {}",
            bpf_get_current_pid_tgid() as u32
        );
    }
    0
}

#[inline(always)]
fn exit(ctx: &TracePointContext, kind: Kind, call: Call) -> u32 {
    if !active() {
        return 0;
    }
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: only this thread's entry writes this key.
    let pending = match unsafe { PENDING.get(thread) } {
        Some(pending) => *pending,
        // The call found no room, or began before the programs were attached.
        None => return 0,
    };
    let _ = PENDING.remove(thread);
    // SAFETY: the verifier bounds the offset by the tracepoint's size.
    let result = unsafe { ctx.read_at::<i64>(16) }.unwrap_or_default();
    finish(&pending, result, kind, call);
    0
}

/// The running task's call ended with `result`.
#[inline(always)]
pub fn finish(pending: &PendingCall, result: i64, kind: Kind, call: Call) {
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
    emit::send_bounded(kind, current, counts, |record: *mut NamespaceCall| {
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
        escape::check(current, &key, counts, how);
    }
}

/// The flags of the types in which the current task is no longer where it was.
#[inline(always)]
fn changed(before: &Namespaces) -> u64 {
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
