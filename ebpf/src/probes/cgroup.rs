//! Cgroups that are made or removed, or become populated or empty, in every hierarchy.
//!
//! `void trace_cgroup_mkdir(struct cgroup *cgrp, const char *path)`,
//! `void trace_cgroup_rmdir(struct cgroup *cgrp, const char *path)` and
//! `void trace_cgroup_notify_populated(struct cgroup *cgrp, const char *path, int val)`
//! (`include/trace/events/cgroup.h`).

use agent_ebpf::{CgroupChangeRecord, CgroupMkdirRecord, Field, PATH_MAX, RecordKind};
use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel_str, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};

use crate::{
    config::active,
    emit, escape,
    task::{self, Typed},
};

#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    if !active() {
        return 0;
    }
    let cgroup = Typed::argument(ctx.arg(0), Field::CgroupId);
    let path: *const u8 = ctx.arg(1);
    let key = task::key(cgroup);
    escape::made(&key, &task::parent_key(cgroup));
    emit::send_unless_full(
        RecordKind::CgroupMkdir,
        task::current(),
        |record: *mut CgroupMkdirRecord| {
            // SAFETY: `record` points to memory reserved in the ring; the helper writes at most PATH_MAX bytes of
            // `path`, and checks that address.
            unsafe {
                (*record).cgroup = key;
                let destination = (&raw mut (*record).path).cast();
                let written = bpf_probe_read_kernel_str(destination, PATH_MAX as u32, path.cast());
                // The helper's count includes the NUL.
                (*record).path_len = if written > 0 { written as u64 - 1 } else { 0 };
            }
        },
    );
    0
}

#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    if active() {
        escape::removed(&task::key(Typed::argument(ctx.arg(0), Field::CgroupId)));
    }
    change(
        RecordKind::CgroupRmdir,
        Typed::argument(ctx.arg(0), Field::CgroupId),
        0,
    )
}

#[btf_tracepoint(function = "cgroup_notify_populated")]
pub fn cgroup_populated(ctx: BtfTracePointContext) -> i32 {
    let populated: i32 = ctx.arg(2);
    change(
        RecordKind::CgroupPopulated,
        Typed::argument(ctx.arg(0), Field::CgroupId),
        u64::from(populated != 0),
    )
}

#[inline(always)]
fn change(kind: RecordKind, cgroup: Typed, populated: u64) -> i32 {
    if !active() {
        return 0;
    }
    emit::send_unless_full(kind, task::current(), |record: *mut CgroupChangeRecord| {
        // SAFETY: `record` points to memory reserved in the ring.
        unsafe {
            (*record).cgroup = task::key(cgroup);
            (*record).populated = populated;
        }
    });
    0
}
