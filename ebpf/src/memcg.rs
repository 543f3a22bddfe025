//! Memory cgroups: usage, limits, and whose limit an OOM kill was for.

use agent_ebpf::{ABSENT, CgroupKey, Field, UNLIMITED};

use crate::{
    config::{config, field},
    task::{self, Probed},
};

/// How far below its limit, in pages, a cgroup may have drained between the failed charge and the
/// kill and still be the one whose limit was hit. Charges come in batches of 64 pages a CPU
/// (`MEMCG_CHARGE_BATCH`, `include/linux/memcontrol.h`).
const TOLERANCE: u64 = 256;

/// The deepest nesting that is looked through.
const DEPTH: usize = 24;

/// A memory cgroup. `struct mem_cgroup` begins with its `cgroup_subsys_state`.
#[derive(Clone, Copy)]
pub struct Memcg(Probed);

/// The cgroup whose limit was hit, and how full it was, in bytes.
pub struct Owner {
    pub key: CgroupKey,
    pub limit: u64,
    pub usage: u64,
    pub swap_limit: u64,
    pub swap_usage: u64,
}

impl Owner {
    /// No limit was hit.
    pub const NONE: Self = Self {
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
    pub fn at(address: u64) -> Self {
        Self(Probed::new(address as *const u8))
    }

    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.0.is_null()
    }

    /// The one that the memory of `task` is charged to: that of the owner of its address space, as
    /// the kernel counts kills (`memcg_memory_event_mm`).
    #[inline(always)]
    pub fn of(task: Probed) -> Option<Self> {
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
    pub fn key(self) -> CgroupKey {
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
    pub fn kills(self) -> u64 {
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
    pub fn limit_owner(self) -> Self {
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
    pub fn as_owner(self) -> Owner {
        let (usage, limit) = self.counter(Field::MemcgMemory);
        let (swap_usage, swap_limit) = if field(Field::MemcgSwap) == ABSENT {
            (0, u64::MAX)
        } else {
            self.counter(Field::MemcgSwap)
        };
        Owner {
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
pub fn resident(task: Probed) -> [u64; 3] {
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
