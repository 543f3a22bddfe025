//! Processes that are moved into cgroups: finds the strangers among them (see `escape`).
//!
//! `void trace_cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task,
//! bool threadgroup)` (`include/trace/events/cgroup.h`): runs in the task that writes to `cgroup.procs`, once for each
//! hierarchy, when the process is in its new cgroup.

use agent_ebpf::Field;
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    config::active,
    counts, escape, plain,
    task::{self, Typed},
};

#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn attach(ctx: BtfTracePointContext) -> i32 {
    if !active() {
        return 0;
    }
    let cgroup = Typed::argument(ctx.arg(0), Field::CgroupId);
    let process = Typed::argument(ctx.arg(2), Field::TaskId);
    // A process has a cgroup in each hierarchy, but is counted and checked for escapes under one of them only.
    let counted = task::counted_cgroup(process);
    if counts::init_of(&task::process(process)).is_some()
        && let Some(counts) = counts::of(&counted)
    {
        plain::has_first(counts);
    }
    if counted == task::key(cgroup) {
        escape::entered(process, &counted);
    }
    0
}
