//! Processes put into cgroups, for who is a stranger there.
//!
//! `void trace_cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task,
//! bool threadgroup)` (`include/trace/events/cgroup.h`): in the task that writes to `cgroup.procs`,
//! hierarchy by hierarchy, once the process is there.

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
    // A process is counted, and judged, by one of its cgroups.
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
