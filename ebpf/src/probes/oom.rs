//! Kills by the OOM killer.
//!
//! `void trace_mark_victim(struct task_struct *task, uid_t uid)` (`include/trace/events/oom.h`):
//! in the task whose allocation failed, once for each thread that is marked, and for tasks that
//! were dying anyway. The kernel counts a kill before it marks, so a mark is a kill when the
//! victim's memory cgroup has more kills than were seen before.
//!
//! Of what was short it does not tell. Where trampolines load, that is known exactly, from
//! `static void oom_kill_process(struct oom_control *oc, const char *message)` (`mm/oom_kill.c`),
//! during which all marks of a kill are made; elsewhere from the memory cgroups above the victim.

use agent_ebpf::{Constraint, Field, OomRecord, ProcessKey, RecordKind};
use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, fentry, map},
    maps::Array,
    programs::{BtfTracePointContext, FEntryContext},
};

use crate::{
    config::active,
    counts, emit,
    memcg::{self, Memcg, Owner},
    task::{self, Probed, Typed},
};

/// What is short, as the kernel has found.
#[derive(Clone, Copy)]
struct Shortage {
    /// The pid and tid of the task that needs the memory, and marks the victims.
    thread: u64,
    /// The address of the memory cgroup whose limit was hit; 0 where the host's memory is short.
    memcg: u64,
    /// Of `enum oom_constraint` (`include/linux/oom.h`), in the order of [`Constraint`].
    constraint: u64,
}

/// The last kill that began. There is one at a time (`oom_lock`).
#[map]
static SHORTAGE: Array<Shortage> = Array::with_max_entries(1, 0);

#[fentry(function = "oom_kill_process")]
pub fn oom_fentry(ctx: FEntryContext) -> i32 {
    if !active() {
        return 0;
    }
    let control = Typed::new(ctx.arg(0));
    let constraint: u32 = control.load(Field::OomConstraint);
    let shortage = Shortage {
        thread: bpf_get_current_pid_tgid(),
        memcg: control.load(Field::OomMemcg),
        constraint: constraint.into(),
    };
    let _ = SHORTAGE.set(0, shortage, 0);
    0
}

#[btf_tracepoint(function = "mark_victim")]
pub fn oom(ctx: BtfTracePointContext) -> i32 {
    if !active() {
        return 0;
    }
    let victim = Probed::new(ctx.arg(0));
    let Some(memcg) = Memcg::of(victim) else {
        return 0;
    };
    let (key, kills) = (memcg.key(), memcg.kills());
    let new = counts::new_kills(&key, kills);
    if new == 0 {
        return 0;
    }
    if let Some(counts) = counts::of(&key) {
        // SAFETY: a map's value.
        counts::add(unsafe { &raw mut (*counts).oom_kills }, new);
    }
    let (limited, constraint) = short(memcg);
    let mut owner = Owner::NONE;
    if !limited.is_none() {
        owner = limited.as_owner();
        if let Some(counts) = counts::of(&owner.key) {
            // SAFETY: a map's value.
            counts::add(unsafe { &raw mut (*counts).oom_limit_kills }, 1);
        }
    }
    counts::oom_kill(constraint);
    emit::send(RecordKind::Oom, |record: *mut OomRecord| {
        fill(record, victim, owner, constraint, kills)
    });
    0
}

/// Whose limit was hit, if any was, for a kill in `memcg`, and the number of the constraint.
#[inline(always)]
fn short(memcg: Memcg) -> (Memcg, u32) {
    // A thread that marks outside of a kill of its own has none to tell of: `new_kills` says so before.
    if let Some(shortage) = SHORTAGE.get(0)
        && shortage.thread == bpf_get_current_pid_tgid()
    {
        return (Memcg::at(shortage.memcg), shortage.constraint as u32);
    }
    let limited = memcg.limit_owner();
    let constraint = if limited.is_none() {
        Constraint::None
    } else {
        Constraint::Memcg
    };
    (limited, constraint as u32)
}

#[inline(always)]
fn fill(record: *mut OomRecord, victim: Probed, owner: Owner, constraint: u32, kills: u64) {
    // SAFETY: `record` is the ring's.
    let record = unsafe { &mut *record };
    task::capture(victim, &raw mut record.victim);
    record.owner = owner.key;
    record.limit = owner.limit;
    record.usage = owner.usage;
    record.swap_limit = owner.swap_limit;
    record.swap_usage = owner.swap_usage;
    [record.anon, record.file, record.shmem] = memcg::resident(victim);
    record.kills = kills;
    record.constraint = constraint;
    let init = ProcessKey {
        start_time: record.victim.start_time,
        pid: record.victim.pid,
        zero: 0,
    };
    record.init_killed = u32::from(counts::init_of(&init).is_some());
}
