//! Kills by the OOM killer.
//!
//! `void trace_mark_victim(struct task_struct *task, uid_t uid)` (`include/trace/events/oom.h`):
//! in the task whose allocation failed, once for each thread that is marked, and for tasks that
//! were dying anyway. The kernel counts a kill before it marks, so a mark is a kill when the
//! victim's memory cgroup has more kills than were seen before. Of what was short it tells only
//! whether a cgroup's limit was hit.

use agent_ebpf::{CgroupKey, Constraint, Kind, Oom, ProcessKey, UNLIMITED};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    config::active,
    counts, emit,
    memcg::{self, Memcg, Owner},
    task::{self, Probed},
};

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
    let owner = memcg.limit_owner();
    let constraint = match &owner {
        Some(owner) => {
            if let Some(counts) = counts::of(&owner.key) {
                // SAFETY: a map's value.
                counts::add(unsafe { &raw mut (*counts).oom_limit_kills }, 1);
            }
            Constraint::Memcg
        }
        None => Constraint::None,
    };
    counts::oom_kill(constraint);
    emit::send(Kind::Oom, |record: *mut Oom| {
        fill(record, victim, owner, constraint, kills)
    });
    0
}

#[inline(always)]
fn fill(
    record: *mut Oom,
    victim: Probed,
    owner: Option<Owner>,
    constraint: Constraint,
    kills: u64,
) {
    // SAFETY: `record` is the ring's.
    let record = unsafe { &mut *record };
    task::capture(victim, &raw mut record.victim);
    let owner = owner.unwrap_or(Owner {
        key: CgroupKey {
            id: 0,
            hierarchy: 0,
            zero: 0,
        },
        limit: UNLIMITED,
        usage: 0,
        swap_limit: UNLIMITED,
        swap_usage: 0,
    });
    record.owner = owner.key;
    record.limit = owner.limit;
    record.usage = owner.usage;
    record.swap_limit = owner.swap_limit;
    record.swap_usage = owner.swap_usage;
    [record.anon, record.file, record.shmem] = memcg::resident(victim);
    record.kills = kills;
    record.constraint = constraint as u32;
    let init = ProcessKey {
        start_time: record.victim.start_time,
        pid: record.victim.pid,
        zero: 0,
    };
    record.init_killed = u32::from(counts::is_init(&init));
}
