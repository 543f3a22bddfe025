//! The births of processes and threads, and the namespaces that clone(2) makes for some of them.
//!
//! `void trace_task_newtask(struct task_struct *task, unsigned long clone_flags)` (`include/trace/events/task.h`): runs
//! in the task that calls clone(2), when the child is complete and before it runs.

use agent_ebpf::{CLONE_NEW_ANY, Field, ForkBesideRecord, ForkRecord, RecordKind};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    config::active,
    counts, emit, escape, namespace_call,
    plain::is_outside,
    task::{self, Pointer, Typed},
    wanted::KindDemand,
};

/// `include/uapi/linux/sched.h`.
const CLONE_PARENT: u64 = 0x0000_8000;
const CLONE_THREAD: u64 = 0x0001_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;

/// With `CLONE_PARENT`, the child's parent is not the caller. With `CLONE_NEWUSER`, the child has a user namespace of
/// its own, which [`task::is_beside`] does not see.
const ELSEWHERE: u64 = CLONE_PARENT | CLONE_NEWUSER;

#[btf_tracepoint(function = "task_newtask")]
pub fn fork(ctx: BtfTracePointContext) -> i32 {
    if !active() {
        return 0;
    }
    let child = Typed::argument(ctx.arg(0), Field::TaskId);
    let flags: u64 = ctx.arg(1);
    // This is no program of its own: the kernel calls the only program of a tracepoint directly, but several from a
    // loop, for which every fork would pay.
    if flags & CLONE_NEW_ANY != 0 {
        namespace_call::cloned(child.probed(), flags);
    }
    // With these flags, the child's real parent is that of the caller (`copy_process`, `kernel/fork.c`).
    if flags & (CLONE_PARENT | CLONE_THREAD) != 0 {
        born(task::current(), child, flags);
    } else {
        born(child.follow(Field::TaskRealParent), child, flags);
    }
    0
}

#[inline(always)]
fn born<const TYPED: bool>(caller: Pointer<TYPED>, child: Typed, flags: u64) {
    let cgroup = task::counted_cgroup(child);
    // With CLONE_INTO_CGROUP, the child's cgroup is not the caller's.
    let from = if task::share_cgroups(child, caller) {
        cgroup
    } else {
        task::counted_cgroup(caller)
    };
    let Some(counts) = counts::of(&from) else {
        return;
    };
    if flags & CLONE_THREAD != 0 {
        // SAFETY: `counts` points to a map's value, which is valid while the program runs.
        counts::add(unsafe { &raw mut (*counts).threads }, 1);
        return;
    }
    // SAFETY: `counts` points to a map's value, which is valid while the program runs.
    counts::add(unsafe { &raw mut (*counts).forks }, 1);
    if cgroup != from || !is_outside(counts, &from) {
        escape::born(child, &cgroup, caller, &from);
    }
    let wanted = KindDemand::of(RecordKind::Fork);
    if wanted.from(&from) || (cgroup != from && wanted.from(&cgroup)) {
        if flags & ELSEWHERE == 0 && task::is_beside(child, caller) {
            emit::send_frequent(RecordKind::Fork, caller, |record: *mut ForkBesideRecord| {
                // SAFETY: `record` points to memory reserved in the ring.
                let record = unsafe { &mut *record };
                record.start_time = child.load(Field::TaskStartBoottime);
                record.pid = child.load(Field::TaskPid);
                record.ns_pid = task::own_number(child);
            });
        } else {
            emit::send_frequent(RecordKind::Fork, caller, |record: *mut ForkRecord| {
                // SAFETY: `record` points to memory reserved in the ring.
                unsafe { task::capture(child, &raw mut (*record).child) };
            });
        }
    } else {
        emit::unwanted(RecordKind::Fork);
    }
}
