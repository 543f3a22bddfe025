//! clone(2) and clone3(2) with a `CLONE_NEW*` flag.
//!
//! `void trace_task_newtask(struct task_struct *task, unsigned long clone_flags)`
//! (`include/trace/events/task.h`): in the parent, once the child is complete and before it runs.
//! A clone that fails does not come here.

use agent_ebpf::{CALL_BOUNDS, CLONE_NEW_ANY, Call, Clone, Kind};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    config::active,
    counts, emit,
    task::{self, Probed},
};

#[btf_tracepoint(function = "task_newtask")]
pub fn clone(ctx: BtfTracePointContext) -> i32 {
    let flags: u64 = ctx.arg(1);
    if flags & CLONE_NEW_ANY == 0 || !active() {
        return 0;
    }
    let child = Probed::new(ctx.arg(0));
    let key = task::counted_cgroup(task::current());
    let Some(counts) = counts::of(&key) else {
        return 0;
    };
    counts::call(counts, Call::Clone, flags, false);
    // SAFETY: a map's value.
    let bounds = (unsafe { &raw mut (*counts).calls_sent }, CALL_BOUNDS);
    let fill = |record: *mut Clone| {
        // SAFETY: `record` is the ring's.
        unsafe {
            task::capture(child, &raw mut (*record).child);
            (*record).flags = flags & CLONE_NEW_ANY;
        }
    };
    emit::send_bounded(Kind::Clone, task::current(), bounds, fill);
    0
}
