//! Kills by the OOM killer.
//!
//! `void trace_mark_victim(struct task_struct *task, uid_t uid)` (`include/trace/events/oom.h`): runs in the task whose
//! allocation failed, once for each task that the kernel marks. The kernel also marks tasks that are dying anyway. It
//! counts a kill before it marks the victim, so a mark belongs to a kill if the victim's memory cgroup has more kills
//! than at the last mark.
//!
//! The tracepoint does not say which limit was hit. Where trampolines load, a program at
//! `static void oom_kill_process(struct oom_control *oc, const char *message)` (`mm/oom_kill.c`) learns it exactly: the
//! kernel makes all marks of a kill in that function. Elsewhere, the program infers it from the memory cgroups above
//! the victim.

use agent_ebpf::{
    ABSENT, CgroupKey, Constraint, Field, OomRecord, ProcessKey, RecordKind, UNLIMITED,
};
use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, fentry, map},
    maps::Array,
    programs::{BtfTracePointContext, FEntryContext},
};

use crate::{
    config::{active, config, field},
    counts, emit,
    task::{self, Probed, Typed},
};

/// The kernel's reason for a kill.
#[derive(Clone, Copy)]
struct Shortage {
    /// The pid and tid of the task whose allocation failed, which also marks the victims.
    thread: u64,
    /// The address of the memory cgroup whose limit was hit; 0 if no limit was, as when the host's memory is short.
    memcg: u64,
    /// A value of `enum oom_constraint` (`include/linux/oom.h`), which has the order of [`Constraint`].
    constraint: u64,
}

/// The reason for the last kill that began. The kernel makes one kill at a time (`oom_lock`).
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
        // SAFETY: `counts` points to a map's value, which is valid while the program runs.
        counts::add(unsafe { &raw mut (*counts).oom_kills }, new);
    }
    let (limited, constraint) = short(memcg);
    let mut owner = HitLimit::NONE;
    if !limited.is_none() {
        owner = limited.as_hit();
        if let Some(counts) = counts::of(&owner.key) {
            // SAFETY: `counts` points to a map's value, which is valid while the program runs.
            counts::add(unsafe { &raw mut (*counts).oom_limit_kills }, 1);
        }
    }
    counts::oom_kill(constraint);
    emit::send(RecordKind::Oom, |record: *mut OomRecord| {
        fill(record, victim, owner, constraint, kills)
    });
    0
}

/// For a kill in `memcg`: the cgroup whose limit was hit, if any was, and the number of the [`Constraint`].
#[inline(always)]
fn short(memcg: Memcg) -> (Memcg, u32) {
    // A thread may also mark a dying task outside of `oom_kill_process`. The kernel counts no kill then, and `oom`
    // returns before it calls this.
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
fn fill(record: *mut OomRecord, victim: Probed, owner: HitLimit, constraint: u32, kills: u64) {
    // SAFETY: `record` points to memory reserved in the ring.
    let record = unsafe { &mut *record };
    task::capture(victim, &raw mut record.victim);
    record.owner = owner.key;
    record.limit = owner.limit;
    record.usage = owner.usage;
    record.swap_limit = owner.swap_limit;
    record.swap_usage = owner.swap_usage;
    [record.anon, record.file, record.shmem] = resident(victim);
    record.kills = kills;
    record.constraint = constraint;
    let init = ProcessKey {
        start_time: record.victim.start_time,
        pid: record.victim.pid,
        zero: 0,
    };
    record.init_killed = u32::from(counts::init_of(&init).is_some());
}

/// The most pages that a cgroup may be below its limit at the kill to be taken for the one whose limit was hit: its
/// usage may have fallen since the charge that failed. The kernel charges in batches of 64 pages for each CPU
/// (`MEMCG_CHARGE_BATCH`, `include/linux/memcontrol.h`).
const TOLERANCE: u64 = 256;

/// The number of nested cgroups that are searched for the limit, from the victim's upwards.
const DEPTH: usize = 24;

/// A memory cgroup. `struct mem_cgroup` begins with its `cgroup_subsys_state`.
#[derive(Clone, Copy)]
struct Memcg(Probed);

/// The cgroup whose limit was hit, and how full it was, in bytes.
struct HitLimit {
    key: CgroupKey,
    limit: u64,
    usage: u64,
    swap_limit: u64,
    swap_usage: u64,
}

impl HitLimit {
    /// No limit was hit.
    const NONE: Self = Self {
        key: CgroupKey {
            id: 0,
            hierarchy: 0,
            zero: 0,
        },
        limit: UNLIMITED,
        usage: 0,
        swap_limit: UNLIMITED,
        swap_usage: 0,
    };
}

impl Memcg {
    /// No memory cgroup.
    const NONE: Self = Self(Probed::NULL);

    /// The memory cgroup at this address.
    #[inline(always)]
    fn at(address: u64) -> Self {
        Self(Probed::new(address as *const u8))
    }

    #[inline(always)]
    fn is_none(self) -> bool {
        self.0.is_null()
    }

    /// The memory cgroup that the memory of `task` is charged to: that of the owner of its address space. The kernel
    /// counts kills under the same cgroup (`memcg_memory_event_mm`).
    #[inline(always)]
    fn of(task: Probed) -> Option<Self> {
        let subsys = field(Field::SubsysMemory);
        if subsys == ABSENT || field(Field::MemcgEventsLocal) == ABSENT {
            return None;
        }
        let mm = task.follow(Field::TaskMm);
        let owner = if mm.is_null() || field(Field::MmOwner) == ABSENT {
            task
        } else {
            mm.follow(Field::MmOwner)
        };
        let task = if owner.is_null() { task } else { owner };
        let css_set = task.follow(Field::TaskCgroups);
        let css = css_set.follow_at(field(Field::CssSetSubsys) as usize + subsys as usize * 8);
        (!css.is_null()).then_some(Self(css))
    }

    #[inline(always)]
    fn key(self) -> CgroupKey {
        task::key(self.0.follow(Field::CssCgroup))
    }

    /// The counter of `event` in `memory_events_local`.
    #[inline(always)]
    fn event(self, event: Field) -> u64 {
        let events = self.0.embedded(Field::MemcgEventsLocal);
        events.load_at(field(event) as usize * 8)
    }

    /// How many tasks of this very cgroup the OOM killer has killed.
    #[inline(always)]
    fn kills(self) -> u64 {
        self.event(Field::EventOomKill)
    }

    /// Usage and limit of a `page_counter`, in pages.
    #[inline(always)]
    fn counter(self, at: Field) -> (u64, u64) {
        let counter = self.0.embedded(at);
        (
            counter.load(Field::CounterUsage),
            counter.load(Field::CounterMax),
        )
    }

    /// The cgroup whose limit was hit, if any was: this one or an ancestor.
    ///
    /// While the kernel kills for a cgroup's limit, it holds the OOM lock of that cgroup and of all cgroups below it
    /// (`mem_cgroup_oom_trylock`). So the limit is that of the topmost cgroup that is locked, however much memory has
    /// been freed since.
    ///
    /// The locks say nothing where the kernel is built without v1, or where another OOM below held a lock already. The
    /// limit is then that of the cgroup with the least room left, among those that are within [`TOLERANCE`] pages of
    /// their limit and have an OOM counted.
    #[inline(always)]
    fn limit_owner(self) -> Self {
        let (mut locked, mut fullest) = (Self::NONE, Self::NONE);
        let mut least = TOLERANCE + 1;
        let mut memcg = self;
        let mut i = 0;
        while i < DEPTH {
            if memcg.kills_at_limit() {
                if memcg.is_locked() {
                    locked = memcg;
                }
                let room = memcg.room();
                if room < least && memcg.event(Field::EventOom) > 0 {
                    least = room;
                    fullest = memcg;
                }
            }
            memcg = Self(memcg.0.follow(Field::CssParent));
            if memcg.is_none() {
                break;
            }
            i += 1;
        }
        if locked.is_none() { fullest } else { locked }
    }

    /// Whether the kernel is handling an OOM of this cgroup or of an ancestor.
    #[inline(always)]
    fn is_locked(self) -> bool {
        field(Field::MemcgOomLock) != ABSENT && self.0.load::<u8>(Field::MemcgOomLock) != 0
    }

    /// Whether the OOM killer kills at this cgroup's limit. On v1, `memory.oom_control` can make tasks wait at the
    /// limit instead; they hold the OOM lock as long as they wait.
    #[inline(always)]
    fn kills_at_limit(self) -> bool {
        field(Field::MemcgOomKillDisable) == ABSENT
            || self.0.load::<u32>(Field::MemcgOomKillDisable) == 0
    }

    /// The pages left until the limit on memory or, on v1, that on memory and swap together, whichever is nearer.
    #[inline(always)]
    fn room(self) -> u64 {
        let (usage, max) = self.counter(Field::MemcgMemory);
        let room = max.saturating_sub(usage);
        // On v2, the other counter is that of swap alone. The kernel does not kill at the limit on swap.
        if self.key().hierarchy == 0 || field(Field::MemcgSwap) == ABSENT {
            return room;
        }
        let (usage, max) = self.counter(Field::MemcgSwap);
        let swap_room = max.saturating_sub(usage);
        if swap_room < room { swap_room } else { room }
    }

    /// This cgroup as the one whose limit was hit, with its present limits and usage.
    #[inline(always)]
    fn as_hit(self) -> HitLimit {
        let (usage, limit) = self.counter(Field::MemcgMemory);
        let (swap_usage, swap_limit) = if field(Field::MemcgSwap) == ABSENT {
            (0, u64::MAX)
        } else {
            self.counter(Field::MemcgSwap)
        };
        HitLimit {
            key: self.key(),
            limit: bytes(limit),
            usage: bytes(usage),
            swap_limit: bytes(swap_limit),
            swap_usage: bytes(swap_usage),
        }
    }
}

/// Converts pages to bytes. `PAGE_COUNTER_MAX` (`LONG_MAX / PAGE_SIZE`, `include/linux/page_counter.h`) and every
/// number above it stand for no limit.
#[inline(always)]
fn bytes(pages: u64) -> u64 {
    let shift = config!(page_shift);
    if pages >= i64::MAX as u64 >> shift {
        UNLIMITED
    } else {
        pages << shift
    }
}

/// The anonymous, file and shared memory that `task` has resident, in bytes. The kernel's counters are in the order
/// `MM_FILEPAGES`, `MM_ANONPAGES`, `MM_SWAPENTS`, `MM_SHMEMPAGES` (`include/linux/mm_types_task.h`).
#[inline(always)]
fn resident(task: Probed) -> [u64; 3] {
    let mm = task.follow(Field::TaskMm);
    if mm.is_null() {
        return [0; 3];
    }
    let stat = mm.embedded(Field::MmRssStat);
    let pages = |index: usize| -> u64 {
        let pages: i64 = if config!(rss_percpu) == 1 {
            let counter = index * field(Field::PercpuCounterSize) as usize;
            stat.load_at(counter + field(Field::PercpuCounterCount) as usize)
        } else {
            stat.load_at(index * 8)
        };
        // The sum lacks the parts that are still in per-CPU counters, so a small one may be negative.
        if pages < 0 {
            0
        } else {
            (pages as u64) << config!(page_shift)
        }
    };
    [pages(1), pages(0), pages(3)]
}
