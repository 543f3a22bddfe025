//! The births of processes and threads.
//!
//! `void trace_task_newtask(struct task_struct *task, unsigned long clone_flags)`
//! (`include/trace/events/task.h`): in the parent, once the child is complete and before it runs.

use agent_ebpf::{Field, Fork, Kind};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    config::active,
    counts, emit, escape,
    task::{self, Probed, Typed},
    wanted::Wanted,
};

/// `CLONE_THREAD` (`include/uapi/linux/sched.h`).
const CLONE_THREAD: u64 = 0x0001_0000;

#[btf_tracepoint(function = "task_newtask")]
pub fn fork(ctx: BtfTracePointContext) -> i32 {
    if !active() {
        return 0;
    }
    let child = Typed::new(ctx.arg(0));
    let flags: u64 = ctx.arg(1);
    let caller = task::current();
    let cgroup = task::counted_cgroup(child);
    // Another one with CLONE_INTO_CGROUP.
    let from = if task::share_cgroups(child, caller) {
        cgroup
    } else {
        task::counted_cgroup(caller)
    };
    let thread = flags & CLONE_THREAD != 0;
    if let Some(counts) = counts::of(&from) {
        // SAFETY: a map's value.
        counts::add(
            unsafe {
                if thread {
                    &raw mut (*counts).threads
                } else {
                    &raw mut (*counts).forks
                }
            },
            1,
        );
    }
    if thread {
        return 0;
    }
    escape::born(child, &cgroup, &from);
    let wanted = Wanted::of(Kind::Fork);
    if wanted.from(&from) || (cgroup != from && wanted.from(&cgroup)) {
        send(caller, child);
    } else {
        emit::unwanted(Kind::Fork);
    }
    0
}

#[inline(always)]
fn send(caller: Probed, child: Typed) {
    let fill = |record: *mut Fork| {
        // SAFETY: `record` is the ring's.
        unsafe { task::capture(child, &raw mut (*record).child) };
    };
    // The same task but with CLONE_PARENT, and several times cheaper to read.
    let parent = child.follow(Field::TaskRealParent);
    if parent.is(caller) {
        emit::send_frequent(Kind::Fork, parent, fill);
    } else {
        emit::send_frequent(Kind::Fork, caller, fill);
    }
}
