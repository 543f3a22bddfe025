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
    let mut owner = HitLimit::NONE;
    if !limited.is_none() {
        owner = limited.as_hit();
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
fn fill(record: *mut OomRecord, victim: Probed, owner: HitLimit, constraint: u32, kills: u64) {
    // SAFETY: `record` is the ring's.
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

/// How far below its limit, in pages, a cgroup may have drained between the failed charge and the
/// kill and still be the one whose limit was hit. Charges come in batches of 64 pages a CPU
/// (`MEMCG_CHARGE_BATCH`, `include/linux/memcontrol.h`).
const TOLERANCE: u64 = 256;

/// The deepest nesting that is looked through.
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
    /// None at all.
    const NONE: Self = Self(Probed::NULL);

    /// The one at this address.
    #[inline(always)]
    fn at(address: u64) -> Self {
        Self(Probed::new(address as *const u8))
    }

    #[inline(always)]
    fn is_none(self) -> bool {
        self.0.is_null()
    }

    /// The one that the memory of `task` is charged to: that of the owner of its address space, as
    /// the kernel counts kills (`memcg_memory_event_mm`).
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

    /// An entry of `memory_events_local`.
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

    /// The ancestor (or itself) whose limit was hit, if any was.
    ///
    /// While the kernel kills for a cgroup's limit it holds the OOM lock of that cgroup and of all
    /// below (`mem_cgroup_oom_trylock`), so the owner is the topmost that is locked, however much
    /// has been freed since. Where no lock tells (the kernel is built without v1, or another OOM
    /// below held one already), it is that of those that ever ran into their limit and are at it
    /// which has the least room left.
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

    /// Whether an OOM is being dealt with here or in an ancestor.
    #[inline(always)]
    fn is_locked(self) -> bool {
        field(Field::MemcgOomLock) != ABSENT && self.0.load::<u8>(Field::MemcgOomLock) != 0
    }

    /// On v1 an operator may have tasks wait at the limit instead (`memory.oom_control`). They hold
    /// the lock as long as they wait.
    #[inline(always)]
    fn kills_at_limit(self) -> bool {
        field(Field::MemcgOomKillDisable) == ABSENT
            || self.0.load::<u32>(Field::MemcgOomKillDisable) == 0
    }

    /// Pages left until the tighter of the limits on memory and, on v1, on memory and swap.
    #[inline(always)]
    fn room(self) -> u64 {
        let (usage, max) = self.counter(Field::MemcgMemory);
        let room = max.saturating_sub(usage);
        // On v2 the other counter is that of swap alone, at whose limit nothing is killed.
        if self.key().hierarchy == 0 || field(Field::MemcgSwap) == ABSENT {
            return room;
        }
        let (usage, max) = self.counter(Field::MemcgSwap);
        let swap_room = max.saturating_sub(usage);
        if swap_room < room { swap_room } else { room }
    }

    /// This one, as that whose limit was hit.
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

/// Pages to bytes. `PAGE_COUNTER_MAX` (`LONG_MAX / PAGE_SIZE`, `include/linux/page_counter.h`)
/// and what is above it is no limit.
#[inline(always)]
fn bytes(pages: u64) -> u64 {
    let shift = config!(page_shift);
    if pages >= i64::MAX as u64 >> shift {
        UNLIMITED
    } else {
        pages << shift
    }
}

/// Bytes of anonymous, file and shared memory that `task` has resident. The kernel's order is
/// `MM_FILEPAGES`, `MM_ANONPAGES`, `MM_SWAPENTS`, `MM_SHMEMPAGES`
/// (`include/linux/mm_types_task.h`).
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
        // Per-CPU parts are not in the sum, which may make a small one negative.
        if pages < 0 {
            0
        } else {
            (pages as u64) << config!(page_shift)
        }
    };
    [pages(1), pages(0), pages(3)]
}
