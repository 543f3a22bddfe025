//! The ends of processes: the program counts each one. It always sends the exit of a cgroup's init process, others
//! while a watcher wants them.
//!
//! `void trace_sched_process_exit(struct task_struct *p, bool group_dead)` (`include/trace/events/sched.h`): runs in
//! each thread that exits. Older kernels have no `group_dead`.

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

/// The processes that ended lately, on kernels that do not say which thread is a process's last.
///
/// When the last two threads exit at once, each may see that no thread lives; the first one that inserts the process
/// counts its end. When the map is full, the kernel evicts a process that ended long ago.
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
    // `oom_killed` is called only where it matters: it reads a cache line that is mostly in another CPU's cache, and
    // that the kernel does not read at an exit.
    let ending = ending(status, status & 0x7f == SIGKILL && oom_killed(task));
    // SAFETY: `counts` points to a map's value, which is valid while the program runs; the index is the enum's own.
    counts::add(unsafe { &raw mut (*counts).exits[ending as usize] }, 1);
    let fill = |record: *mut ExitRecord| {
        // SAFETY: `record` points to memory reserved in the ring.
        let record = unsafe { &mut *record };
        // The last thread need not be the leader. The record has the leader's tid and name, which are the process's.
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

/// Removes the process of `task` from the maps. Returns whether it was an init process.
///
/// `counts` are the counts of `cgroup`, the cgroup of `task`.
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
        // SAFETY: the context of a BTF tracepoint is an array of 64-bit arguments. The agent sets `exit_group_dead`
        // only where the kernel's BTF says that this tracepoint has two.
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
    // Both codes are loaded before one is chosen. If the program chose between the addresses, older verifiers would
    // refuse the one load: they see each field's offset in the other struct.
    let of_group: u32 = signal.load(Field::SignalGroupExitCode);
    let of_leader: u32 = leader.load(Field::TaskExitCode);
    if flags & SIGNAL_GROUP_EXIT != 0 {
        of_group
    } else {
        of_leader
    }
}
