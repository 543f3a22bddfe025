//! The end of a process: each is counted; that of a cgroup's init process is always sent.
//!
//! `void trace_sched_process_exit(struct task_struct *p, bool group_dead)`
//! (`include/trace/events/sched.h`); older kernels have no `group_dead`.

use agent_ebpf::{ABSENT, CgroupKey, Counts, ExitRecord, Field, ProcessKey, RecordKind, ending};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};

use crate::{
    config::{active, config, field},
    counts, emit, escape, namespace_call, plain,
    task::{self, Typed},
    wanted::KindDemand,
};

/// `SIGNAL_GROUP_EXIT` (`include/linux/sched/signal.h`).
const SIGNAL_GROUP_EXIT: u32 = 4;

const SIGKILL: u32 = 9;

/// The processes that ended last, where the kernel does not say which thread is the last: of two that
/// end together, each sees that none lives. Of too many, the oldest are long gone.
#[map]
static ENDED: LruHashMap<ProcessKey, u8> = LruHashMap::with_max_entries(4096, 0);

#[btf_tracepoint(function = "sched_process_exit")]
pub fn exit(ctx: BtfTracePointContext) -> i32 {
    if !active() {
        return 0;
    }
    namespace_call::lose();
    let task = Typed::argument(ctx.arg(0), Field::TaskId);
    if !group_dead(&ctx, task) {
        return 0;
    }
    let key = task::counted_cgroup(task);
    let Some(counts) = counts::of(&key) else {
        return 0;
    };
    let leader = task.follow(Field::TaskGroupLeader);
    let status = status(task, leader);
    // What is not needed is not read: the kernel does not either, and what was written when the process was made
    // is mostly on another CPU.
    let ending = ending(status, status & 0x7f == SIGKILL && oom_killed(task));
    // SAFETY: a map's value; the index is the enum's own.
    counts::add(unsafe { &raw mut (*counts).exits[ending as usize] }, 1);
    let fill = |record: *mut ExitRecord| {
        // SAFETY: `record` is the ring's.
        let record = unsafe { &mut *record };
        // The last thread need not be the leader, by which the process is known.
        if !leader.is(task) {
            record.header.task.tid = record.header.task.pid;
            task::comm(leader, &mut record.header.task);
        }
        record.status = status;
        record.oom_killed = oom_killed(task).into();
    };
    if forget(task, counts, &key) {
        emit::send_unless_full(RecordKind::Exit, task.probed(), fill);
    } else if KindDemand::of(RecordKind::Exit).from(&key) {
        emit::send_frequent(RecordKind::Exit, task, fill);
    } else {
        emit::unwanted(RecordKind::Exit);
    }
    0
}

/// Forgets what is known of the process of `task`, in `cgroup`, which has `counts`; whether it was an init process.
#[inline(always)]
fn forget(task: Typed, counts: *mut Counts, cgroup: &CgroupKey) -> bool {
    let is_outside = plain::is_outside(counts, cgroup);
    if is_outside && !plain::had_first(counts) {
        return false;
    }
    let process = task::process(task);
    if !is_outside {
        escape::ended(&process);
    }
    counts::forget_init(&process)
}

/// Whether the OOM killer chose the process.
#[inline(always)]
fn oom_killed(task: Typed) -> bool {
    let signal = task.follow(Field::TaskSignal);
    field(Field::SignalOomMm) != ABSENT && !signal.follow(Field::SignalOomMm).is_null()
}

/// Whether the process ends with this thread.
#[inline(always)]
fn group_dead(ctx: &BtfTracePointContext, task: Typed) -> bool {
    if config!(exit_group_dead) == 1 {
        // SAFETY: the context of a BTF tracepoint is an array of 64-bit arguments, and the agent
        // found that this one has two.
        let dead: u64 = unsafe { *aya_ebpf::EbpfContext::as_ptr(ctx).cast::<u64>().add(1) };
        return dead & 0xff != 0;
    }
    let live: i32 = task.follow(Field::TaskSignal).load(Field::SignalLive);
    live == 0
        && ENDED
            .insert(task::process(task), 0, BPF_NOEXIST.into())
            .is_ok()
}

/// The wait status of the process, as `wait_task_zombie` has it (`kernel/exit.c`).
#[inline(always)]
fn status(task: Typed, leader: Typed) -> u32 {
    let signal = task.follow(Field::TaskSignal);
    let flags: u32 = signal.load(Field::SignalFlags);
    // Both are read, and one is taken: were one address taken and read, older verifiers would see
    // the offset of each in the other's struct.
    let of_group: u32 = signal.load(Field::SignalGroupExitCode);
    let of_leader: u32 = leader.load(Field::TaskExitCode);
    if flags & SIGNAL_GROUP_EXIT != 0 {
        of_group
    } else {
        of_leader
    }
}
