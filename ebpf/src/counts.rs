//! The counters that the programs keep in the kernel, by cgroup. The counters in `/metrics` come from these maps: an
//! event whose record finds no room in the ring is counted all the same.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use agent_ebpf::{
    CONSTRAINTS, COUNTED_CGROUPS, Call, CgroupKey, Counts, NAMESPACE_TYPES, NamespaceType,
    OVERFLOW, ProcessKey, RareBounds, SHARED, Sent,
};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap},
};

/// The counts of each cgroup. A cgroup that finds no room here is counted under [`OVERFLOW`].
#[map]
static COUNTS: HashMap<CgroupKey, Counts> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// The init process of each cgroup that has one.
#[map]
static INITS: HashMap<CgroupKey, ProcessKey> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// The cgroup whose init process each process is. The process may have moved to a cgroup below that one since.
#[map]
static FIRSTS: HashMap<ProcessKey, CgroupKey> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// The kernel's count of OOM kills in each memory cgroup, as it was at the last kill that was counted. A separate map
/// from [`COUNTS`], where cgroups may share an entry.
#[map]
static KILLS: HashMap<CgroupKey, u64> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// OOM kills on the host, by [`agent_ebpf::Constraint`].
#[map]
static OOM_KILLS: Array<u64> = Array::with_max_entries(CONSTRAINTS as u32, 0);

/// The counts of a new entry. They are a static because they are too large for the stack, which older kernels limit
/// to 512 bytes for all frames of a program.
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

/// The counts of `key`, for which an entry is made if there is none. If there is no room, the counts of [`OVERFLOW`].
#[inline(always)]
pub fn of(key: &CgroupKey) -> Option<*mut Counts> {
    if let Some(counts) = COUNTS.get_ptr_mut(key) {
        return Some(counts);
    }
    // Another CPU may insert the same key first, which serves as well.
    let _ = COUNTS.insert(key, &NO_COUNTS, BPF_NOEXIST.into());
    COUNTS
        .get_ptr_mut(key)
        .or_else(|| COUNTS.get_ptr_mut(&OVERFLOW))
}

/// The counts of `key`, if it has an entry.
#[inline(always)]
pub fn known(key: &CgroupKey) -> Option<*mut Counts> {
    COUNTS.get_ptr_mut(key)
}

/// Adds `n` to a counter in a map, atomically and modulo 2^64: `u64::MAX` subtracts 1.
#[inline(always)]
pub fn add(counter: *mut u64, n: u64) {
    // SAFETY: `counter` is an aligned field of a map's value, which lives as long as the program
    // runs; all writers add atomically.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, n) };
}

/// Counts a call of one of the namespace calls: under each namespace type in `flags`, or as failed.
#[inline(always)]
pub fn call(counts: *mut Counts, call: Call, flags: u64, failed: bool) {
    // SAFETY: `counts` points to a map's value, which is valid while the program runs; the indexes are the enums' own.
    unsafe {
        if failed {
            add(&raw mut (*counts).failed[call as usize], 1);
            return;
        }
        let mut i = 0;
        while i < NAMESPACE_TYPES {
            // 0 or 1, without a branch: the verifier would follow 256 paths through eight branches in a row.
            let asked = flags >> NamespaceType::ALL[i].clone_flag().trailing_zeros() & 1;
            add(&raw mut (*counts).calls[call as usize][i], asked);
            i += 1;
        }
    }
}

/// Whether the cgroup that has `sent` may send one more record, which is counted if so.
///
/// `now` is in ns of CLOCK_BOOTTIME; the ring has been written up to position `written` and read up to `read`. The
/// bounds are approximate: two CPUs that ask at once may both get the last record.
///
/// The bound on records per second keeps a cgroup from taking all of the reader's time. The bound on unread records
/// keeps it from taking the room of other cgroups when the reader gets no time.
#[inline(always)]
pub fn may_send(sent: *mut Sent, bounds: RareBounds, now: u64, written: u64, read: u64) -> bool {
    // SAFETY: `sent` is a field of a map's value, which is valid while the program runs; any bytes are a valid `Sent`.
    let sent = unsafe { &mut *sent };
    let second = now / 1_000_000_000;
    if sent.second != second {
        sent.second = second;
        sent.in_second = 0;
    }
    // A batch ends when the reader has read all that was written before the batch began. A batch that began beyond
    // what is written is left from an earlier ring: the counts outlive the ring on a bpffs.
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

/// Counts an OOM kill on the host, by the number of its [`agent_ebpf::Constraint`].
#[inline(always)]
pub fn oom_kill(constraint: u32) {
    if let Some(counter) = OOM_KILLS.get_ptr_mut(constraint) {
        add(counter, 1);
    }
}

/// How many kills the kernel's count for a memory cgroup, `now`, has more than the last count seen, which it replaces.
/// The kernel serializes OOM kills by `oom_lock`.
#[inline(always)]
pub fn new_kills(memcg: &CgroupKey, now: u64) -> u64 {
    // SAFETY: any number is a valid value, and only this program changes an entry.
    let known = unsafe { KILLS.get(memcg) }.copied().unwrap_or_default();
    if now <= known {
        return 0;
    }
    // If the map is full, the next mark counts these kills again, which is better than not to count them.
    let _ = KILLS.insert(memcg, now, 0);
    now - known
}

/// A map is full.
pub struct NoRoom;

/// `EEXIST` (`include/uapi/asm-generic/errno-base.h`), as helpers return it.
const EXISTS: i64 = -17;

/// Makes `init` the init process of the cgroup `key`. False if the cgroup has one.
#[inline(always)]
pub fn adopt_init(key: &CgroupKey, init: &ProcessKey) -> Result<bool, NoRoom> {
    match INITS.insert(key, init, BPF_NOEXIST.into()) {
        Ok(()) => {}
        Err(error) if i64::from(error) == EXISTS => return Ok(false),
        Err(_) => return Err(NoRoom),
    }
    if FIRSTS.insert(init, key, 0).is_err() {
        // The entry would keep a later init process from being adopted.
        let _ = INITS.remove(key);
        return Err(NoRoom);
    }
    Ok(true)
}

/// Whether these counts are shared by all cgroups that found no room.
#[inline(always)]
pub fn is_shared(counts: *mut Counts) -> bool {
    // SAFETY: `counts` points to a map's value, which is valid while the program runs.
    unsafe { (*counts).had_first & SHARED != 0 }
}

/// The cgroup whose init process `process` is.
#[inline(always)]
pub fn init_of(process: &ProcessKey) -> Option<CgroupKey> {
    // SAFETY: any bytes are a valid key, and an entry does not change once it is written.
    unsafe { FIRSTS.get(process) }.copied()
}

/// Forgets an init process. False if the process is none, or another CPU has forgotten it.
#[inline(always)]
pub fn forget_init(init: &ProcessKey) -> bool {
    let Some(key) = init_of(init) else {
        return false;
    };
    let _ = INITS.remove(key);
    FIRSTS.remove(init).is_ok()
}
