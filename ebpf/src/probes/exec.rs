//! exec: the program counts each one and checks the process for an escape. It always sends the exec by which a process
//! becomes the init process of its cgroup, others while a watcher wants them.
//!
//! `void trace_sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
//! (`include/trace/events/sched.h`): runs in the task that executes, when the exec can no longer fail.

use agent_ebpf::{ARGV_MAX, CgroupKey, ExecRecord, Field, How, Namespace, RecordKind};
use aya_ebpf::{
    helpers::generated::bpf_probe_read_user, macros::btf_tracepoint, programs::BtfTracePointContext,
};

use crate::{
    config::{active, is_host},
    counts::{self, NoRoom},
    emit, escape, plain,
    task::{self, Pointer, Typed},
    wanted::KindDemand,
};

#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec(ctx: BtfTracePointContext) -> i32 {
    if !active() {
        return 0;
    }
    let task = Typed::argument(ctx.arg(0), Field::TaskId);
    let key = task::counted_cgroup(task);
    let Some(counts) = counts::of(&key) else {
        return 0;
    };
    // SAFETY: `counts` points to a map's value, which is valid while the program runs.
    counts::add(unsafe { &raw mut (*counts).execs }, 1);
    if may_be_first(task, &key) {
        match counts::adopt_init(&key, &task::process(task)) {
            Ok(true) => {
                plain::has_first(counts);
                escape::begin(&key, task);
                let task = task.probed();
                emit::send_unless_full(RecordKind::Exec, task, |record| fill(task, record));
                return 0;
            }
            Ok(false) => {}
            Err(NoRoom) => escape::not_watched(&key),
        }
    }
    if !plain::is_outside(counts, &key) {
        escape::check(task, &key, How::Unseen);
    }
    if KindDemand::of(RecordKind::Exec).from(&key) {
        emit::send_frequent(RecordKind::Exec, task, |record| fill(task, record));
    } else {
        emit::unwanted(RecordKind::Exec);
    }
    0
}

/// Whether the process can be the init process of its cgroup, as far as that can be told without [`counts`].
#[inline(always)]
fn may_be_first(task: Typed, cgroup: &CgroupKey) -> bool {
    // The engine's own runtime is in the container's cgroup too, but still in the host's mount namespace.
    if is_host(Namespace::Mnt, task::mnt_namespace(task)) {
        return false;
    }
    // The parent of an init process is outside of the cgroup. A process whose parent is inside is a later one.
    let parent = task.follow(Field::TaskRealParent);
    !task::share_cgroups(task, parent)
        && task::counted_cgroup(parent) != *cgroup
        && escape::may_begin(cgroup)
}

/// Fills the record with the arguments of the new program, which the exec has just put into its memory.
#[inline(always)]
fn fill<const TYPED: bool>(task: Pointer<TYPED>, record: *mut ExecRecord) {
    let mm = task.follow(Field::TaskMm);
    let start: u64 = mm.load(Field::MmArgStart);
    let end: u64 = mm.load(Field::MmArgEnd);
    let len = end.wrapping_sub(start);
    let read = len.min(ARGV_MAX as u64) as u32;
    // SAFETY: `record` points to memory reserved in the ring. The helper checks the address it reads from, and writes
    // `read` bytes, which is at most ARGV_MAX.
    unsafe {
        let destination = (&raw mut (*record).argv).cast();
        let failed = bpf_probe_read_user(destination, read, start as *const _);
        (*record).argv_len = if failed == 0 { len } else { 0 };
    }
}
