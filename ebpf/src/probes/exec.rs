//! exec of the first process of a cgroup.
//!
//! `void trace_sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
//! (`include/trace/events/sched.h`): in the task, when the exec can no longer fail.

use agent_ebpf::{Exec, Field, Kind, Namespace};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    config::{active, is_host},
    counts, emit,
    task::{self, Typed},
};

#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec(ctx: BtfTracePointContext) -> i32 {
    if !active() {
        return 0;
    }
    let task = Typed::new(ctx.arg(0));
    // An engine's own runtime is in the container's cgroup too, but still among the host's mounts.
    if is_host(Namespace::Mnt, task::mnt_namespace(task)) {
        emit::unwanted(Kind::Exec);
        return 0;
    }
    let key = task::counted_cgroup(task);
    // The first process comes from outside; what a process of the cgroup starts is a later one.
    if task::counted_cgroup(task.follow(Field::TaskRealParent)) == key {
        emit::unwanted(Kind::Exec);
        return 0;
    }
    if counts::adopt_init(&key, &task::init(task)) {
        emit::send_unless_full(Kind::Exec, |record: *mut Exec| {
            // SAFETY: `record` is the ring's.
            unsafe { (*record).argv_len = 0 };
        });
    } else {
        emit::unwanted(Kind::Exec);
    }
    0
}
