//! What is counted in the kernel, cgroup by cgroup. These maps are the truth that counters in
//! `/metrics` come from: a record that the ring has no room for loses no count.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use agent_ebpf::{
    CONSTRAINTS, COUNTED_CGROUPS, Call, CgroupKey, Counts, NAMESPACE_TYPES, NamespaceType,
    OVERFLOW, ProcessKey, RareBounds, Sent,
};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap},
};

#[map]
static COUNTS: HashMap<CgroupKey, Counts> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// The init process of each cgroup that has one.
#[map]
static INITS: HashMap<CgroupKey, ProcessKey> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// The cgroup that each init process was first in. It may be in another one by now, below that.
#[map]
static FIRSTS: HashMap<ProcessKey, CgroupKey> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// The kernel's count of kills in each memory cgroup that had one, as of the last one. Apart from
/// [`COUNTS`], where cgroups may share an entry.
#[map]
static KILLS: HashMap<CgroupKey, u64> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// OOM kills of the host, by [`agent_ebpf::Constraint`].
#[map]
static OOM_KILLS: Array<u64> = Array::with_max_entries(CONSTRAINTS as u32, 0);

/// Not on the stack, of which older kernels give a program 512 bytes in all.
static NO_COUNTS: Counts = Counts {
    forks: 0,
    threads: 0,
    birth_zeros: [0; 6],
    execs: 0,
    exits: [0; agent_ebpf::ENDINGS],
    below: 0,
    end_zeros: [0; 2],
    plain: 0,
    had_first: 0,
    oom_kills: 0,
    oom_limit_kills: 0,
    failed: [0; agent_ebpf::CALLS],
    unwatched: 0,
    calls: [[0; NAMESPACE_TYPES]; agent_ebpf::CALLS],
    escapes: [0; NAMESPACE_TYPES],
    calls_sent: NOTHING_SENT,
    escapes_sent: NOTHING_SENT,
};

const NOTHING_SENT: Sent = Sent {
    second: 0,
    in_second: 0,
    batch: 0,
    in_batch: 0,
};

/// The counts of `key`, or those of all that found no room.
#[inline(always)]
pub fn of(key: &CgroupKey) -> Option<*mut Counts> {
    if let Some(counts) = COUNTS.get_ptr_mut(key) {
        return Some(counts);
    }
    // Another CPU may insert the same key first: what counts is that it is there.
    let _ = COUNTS.insert(key, &NO_COUNTS, BPF_NOEXIST.into());
    COUNTS
        .get_ptr_mut(key)
        .or_else(|| COUNTS.get_ptr_mut(&OVERFLOW))
}

/// Those of `key` where it has some, without making an entry.
#[inline(always)]
pub fn known(key: &CgroupKey) -> Option<*mut Counts> {
    COUNTS.get_ptr_mut(key)
}

/// Adds `n` to a counter in a map.
#[inline(always)]
pub fn add(counter: *mut u64, n: u64) {
    // SAFETY: `counter` is an aligned field of a map's value, which lives as long as the program
    // runs; all writers add atomically.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, n) };
}

/// Counts a call by the namespace types it asked for, or as failed.
#[inline(always)]
pub fn call(counts: *mut Counts, call: Call, flags: u64, failed: bool) {
    // SAFETY: `counts` is a map's value; the indexes are the enums' own.
    unsafe {
        if failed {
            add(&raw mut (*counts).failed[call as usize], 1);
            return;
        }
        let mut i = 0;
        while i < NAMESPACE_TYPES {
            // 0 or 1, without a branch: eight of them in a row are 256 ways for a verifier to follow.
            let asked = flags >> NamespaceType::ALL[i].clone_flag().trailing_zeros() & 1;
            add(&raw mut (*counts).calls[call as usize][i], asked);
            i += 1;
        }
    }
}

/// Whether a cgroup that has `sent` may send one more record at `now` (ns), when the ring has been
/// written up to position `written` and read up to `read`. Two CPUs that ask at once may both get the
/// last one: the bounds are on the order of magnitude.
///
/// The bound in time keeps a cgroup from taking all of the reader's time; the bound in the ring
/// keeps it from pushing out others when the reader gets no time.
#[inline(always)]
pub fn may_send(sent: *mut Sent, bounds: RareBounds, now: u64, written: u64, read: u64) -> bool {
    // SAFETY: `sent` is of a map's value.
    let sent = unsafe { &mut *sent };
    let second = now / 1_000_000_000;
    if sent.second != second {
        sent.second = second;
        sent.in_second = 0;
    }
    // A batch ends when all before it has been read. One that is to begin where nothing was written
    // yet is of an earlier ring.
    if sent.batch <= read || sent.batch > written {
        sent.batch = written;
        sent.in_batch = 0;
    }
    if sent.in_second >= bounds.per_second || sent.in_batch >= bounds.unread {
        return false;
    }
    sent.in_second += 1;
    sent.in_batch += 1;
    true
}

/// Counts a kill of the host, by the number of its [`agent_ebpf::Constraint`].
#[inline(always)]
pub fn oom_kill(constraint: u32) {
    if let Some(counter) = OOM_KILLS.get_ptr_mut(constraint) {
        add(counter, 1);
    }
}

/// How many kills there are of which `now`, the kernel's count for a memory cgroup, is the first
/// news. The kernel serializes OOM kills by `oom_lock`.
#[inline(always)]
pub fn new_kills(memcg: &CgroupKey, now: u64) -> u64 {
    // SAFETY: only this program writes to an entry while it is there.
    let known = unsafe { KILLS.get(memcg) }.copied().unwrap_or_default();
    if now <= known {
        return 0;
    }
    // Without room the next mark counts these kills again: rather twice than never.
    let _ = KILLS.insert(memcg, now, 0);
    now - known
}

/// Makes the process the first one of its cgroup; false where there is one.
#[inline(always)]
pub fn adopt_init(key: &CgroupKey, init: &ProcessKey) -> bool {
    INITS.insert(key, init, BPF_NOEXIST.into()).is_ok() && FIRSTS.insert(init, key, 0).is_ok()
}

/// The cgroup that the process is, or was, the first one of.
#[inline(always)]
pub fn init_of(process: &ProcessKey) -> Option<CgroupKey> {
    // SAFETY: an entry is written once.
    unsafe { FIRSTS.get(process) }.copied()
}

/// Forgets an init process; false where it is none, or another CPU did.
#[inline(always)]
pub fn forget_init(init: &ProcessKey) -> bool {
    let Some(key) = init_of(init) else {
        return false;
    };
    let _ = INITS.remove(key);
    FIRSTS.remove(init).is_ok()
}
