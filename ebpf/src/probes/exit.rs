//! The end of the first process of a cgroup.
//!
//! `void trace_sched_process_exit(struct task_struct *p, bool group_dead)`
//! (`include/trace/events/sched.h`); older kernels have no `group_dead`.

use agent_ebpf::{Exit, Field, Kind};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    config::{active, config},
    counts, emit,
    task::{self, Typed},
};

/// `SIGNAL_GROUP_EXIT` (`include/linux/sched/signal.h`).
const SIGNAL_GROUP_EXIT: u32 = 4;

#[btf_tracepoint(function = "sched_process_exit")]
pub fn exit(ctx: BtfTracePointContext) -> i32 {
    if !active() {
        return 0;
    }
    let task = Typed::new(ctx.arg(0));
    if !group_dead(&ctx, task) {
        return 0;
    }
    if !counts::forget_init(&task::init(task)) {
        emit::unwanted(Kind::Exit);
        return 0;
    }
    let status = status(task, task.follow(Field::TaskGroupLeader));
    emit::send_unless_full(Kind::Exit, |record: *mut Exit| {
        // SAFETY: `record` is the ring's.
        unsafe {
            (*record).status = status;
            (*record).oom_killed = 0;
        };
    });
    0
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
