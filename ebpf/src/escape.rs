//! Escapes: a process of a container is in a namespace of the host that its container does not have.
//!
//! The programs compare the namespaces of a process with the [`Baseline`] of its cgroup: the namespaces that the
//! cgroup's init process had when it first executed a program. The cgroups below a container's cgroup share its
//! baseline, up to [`WATCHED_BELOW`] of them.
//!
//! An engine's runtime enters the container's cgroup from outside while it is still in namespaces of the host. The
//! programs mark it as a stranger, as they mark every process that it starts, and report no escapes of strangers. A
//! stranger that executes a program in the container's namespaces becomes the container's own, and stays so wherever
//! it moves. A process of a container cannot make a stranger.

use agent_ebpf::{
    Baseline, COUNTED_CGROUPS, CgroupKey, Counts, ESCAPE_BOUNDS, EscapeRecord, Field, How,
    NAMESPACE_TYPES, Namespace, NamespaceInodes, NamespaceType, ProcessKey, RecordKind,
    WATCHED_BELOW,
};
use aya_ebpf::{
    macros::map,
    maps::{HashMap, LruHashMap},
};

use crate::{
    config, counts, emit, plain,
    task::{self, Pointer, Probed, Typed},
};

/// The baseline of each cgroup that got an init process.
#[map]
static BASELINES: HashMap<CgroupKey, Baseline> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// The cgroups below containers' cgroups, each with the container's cgroup. They are not in [`BASELINES`]: a container
/// can make any number of cgroups, and must not take the room of containers that start later.
#[map]
static BELOW: HashMap<CgroupKey, CgroupKey> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// Processes that entered a container's cgroup from outside: each is a [`STRANGER`] or has become the container's
/// [`OWN`].
///
/// When the map is full, the kernel evicts the least recently used entry. The programs then check an evicted stranger
/// as a process of the container. When an evicted [`OWN`] process moves itself into a cgroup, they treat it like its
/// parent.
#[map]
static STRANGERS: LruHashMap<ProcessKey, u8> = LruHashMap::with_max_entries(8192, 0);

/// Processes that the last check of all processes ([`find`]) found in namespaces of the host, each with the bits of
/// the namespaces' types.
#[map]
static FOUND: LruHashMap<ProcessKey, u32> = LruHashMap::with_max_entries(8192, 0);

const OWN: u8 = 0;
const STRANGER: u8 = 1;

/// Bits of the [`NamespaceType`]s into which a process, or one of its ancestors, escaped. The low [`NAMESPACE_TYPES`]
/// bits are the escapes that are counted; the next bits are those whose record is in the ring.
///
/// When the map is full, the kernel evicts the least recently used entry, and the programs count and report the
/// escapes of that process again.
#[map]
static ESCAPED: LruHashMap<ProcessKey, u32> = LruHashMap::with_max_entries(8192, 0);

/// Whether `cgroup` may get an init process: a cgroup that was made in a container may not.
#[inline(always)]
pub fn may_begin(cgroup: &CgroupKey) -> bool {
    baseline(cgroup).is_none_or(|baseline| baseline.cgroup == *cgroup)
}

/// Makes the namespaces of `task`, the init process of `cgroup`, the baseline of the cgroup.
#[inline(always)]
pub fn begin(cgroup: &CgroupKey, task: Typed) {
    let mut baseline = Baseline {
        cgroup: *cgroup,
        namespaces: Default::default(),
    };
    task::capture_namespaces(task.probed(), &mut baseline.namespaces);
    set_baseline(cgroup, &baseline);
    // If the cgroup had another init process before, this one was marked as a stranger when it entered.
    let _ = STRANGERS.insert(task::process(task), OWN, 0);
}

/// Gives `cgroup`, which was made in `parent`, the baseline of `parent`, if it has one.
#[inline(always)]
pub fn made(cgroup: &CgroupKey, parent: &CgroupKey) {
    let Some(baseline) = baseline(parent) else {
        return;
    };
    let container = baseline.cgroup;
    let Some(counts) = counts::of(&container) else {
        return;
    };
    // SAFETY: `counts` points to a map's value, which is valid while the program runs.
    let (below, unwatched) = unsafe { (&raw mut (*counts).below, &raw mut (*counts).unwatched) };
    // SAFETY: `below` is a field of that value. Two CPUs that read it at once may both take the last place.
    let has_room = unsafe { below.read_volatile() } < WATCHED_BELOW && !counts::is_shared(counts);
    if has_room && BELOW.insert(cgroup, &container, 0).is_ok() {
        counts::add(below, 1);
        plain::end_epoch();
    } else {
        counts::add(unwatched, 1);
    }
}

/// Forgets `cgroup`, which was removed.
#[inline(always)]
pub fn removed(cgroup: &CgroupKey) {
    // SAFETY: an entry does not change once it is written.
    let Some(container) = (unsafe { BELOW.get(cgroup) }).copied() else {
        return;
    };
    if BELOW.remove(cgroup).is_err() {
        return;
    }
    if let Some(counts) = counts::known(&container) {
        // SAFETY: `counts` points to a map's value, which is valid while the program runs.
        let below = unsafe { &raw mut (*counts).below };
        // SAFETY: `below` is a field of that value. It may be 0: it does not count the entries that the agent's scan
        // adds to `BELOW`.
        if unsafe { below.read_volatile() } > 0 {
            counts::add(below, u64::MAX);
        }
    }
}

/// The baseline of `cgroup`, or of the container's cgroup that it is below.
#[inline(always)]
fn baseline(cgroup: &CgroupKey) -> Option<&'static Baseline> {
    // SAFETY: any bytes are a valid `Baseline`. A program or the agent may replace or remove the entry during the read,
    // and the kernel may reuse it. That mostly happens when the cgroup or its init process ends, and then the outcome
    // of the check no longer matters.
    let own = unsafe { BASELINES.get(cgroup) };
    if own.is_some() {
        return own;
    }
    // SAFETY: an entry of `BELOW` does not change once it is written; for `BASELINES`, see the read before.
    unsafe { BASELINES.get(BELOW.get(cgroup)?) }
}

/// Whether `cgroup` is a container's cgroup, or below one.
#[inline(always)]
pub fn is_inside(cgroup: &CgroupKey) -> bool {
    baseline(cgroup).is_some()
}

#[inline(always)]
fn set_baseline(cgroup: &CgroupKey, baseline: &Baseline) {
    if BASELINES.insert(cgroup, baseline, 0).is_err() {
        not_watched(cgroup);
    }
    plain::end_epoch();
}

/// Counts that a map has no room for what would show the escapes of `cgroup`. Streams report that escapes may be missing,
/// and the metrics say in which cgroup.
#[inline(always)]
pub fn not_watched(cgroup: &CgroupKey) {
    emit::no_room(RecordKind::Escape);
    if let Some(counts) = counts::of(cgroup) {
        // SAFETY: `counts` points to a map's value, which is valid while the program runs.
        counts::add(unsafe { &raw mut (*counts).unwatched }, 1);
    }
}

/// The namespaces of a process, compared with its container's baseline and with the host's namespaces.
struct Whereabouts {
    baseline: &'static Baseline,
    host: &'static NamespaceInodes,
    now: NamespaceInodes,
    /// The bits of the types in which the process is in the host's namespace and its container is not.
    outside: u32,
}

/// Compares the namespaces of `task`, of `cgroup`, with its container's. `None` where `cgroup` has no baseline.
#[inline(always)]
fn compare<const TYPED: bool>(task: Pointer<TYPED>, cgroup: &CgroupKey) -> Option<Whereabouts> {
    let (baseline, host) = (baseline(cgroup)?, config::host()?);
    let mut now = NamespaceInodes::default();
    task::capture_namespaces(task, &mut now);
    let outside = host_only(&now, &baseline.namespaces, host);
    Some(Whereabouts {
        baseline,
        host,
        now,
        outside,
    })
}

/// The running process moved `task`, which may be itself, into `cgroup`. Marks `task` as a stranger if it is in a
/// namespace of the host and comes from outside.
#[inline(always)]
pub fn entered(task: Typed, cgroup: &CgroupKey) {
    let Some(found) = compare(task, cgroup) else {
        return;
    };
    if found.outside == 0 {
        return;
    }
    let (process, writer) = (task::process(task), task::current());
    if is_own(&process) {
        return;
    }
    let mut from = writer;
    if task::process(writer) == process {
        // A process that is not in the host's pid namespace was born in a container: a process never changes its own
        // pid namespace.
        if found.now[Namespace::Pid as usize] != found.host[Namespace::Pid as usize] {
            return;
        }
        // The process has already left the cgroup that it came from; its parent is still there.
        from = writer.follow(Field::TaskRealParent);
    }
    if !is_judged(from) {
        let _ = STRANGERS.insert(process, STRANGER, 0);
    }
}

/// Whether the process came from outside and has become the container's own, or is an init process.
#[inline(always)]
fn is_own(process: &ProcessKey) -> bool {
    origin(process) == Some(OWN) || counts::init_of(process).is_some()
}

#[inline(always)]
fn is_stranger(process: &ProcessKey) -> bool {
    origin(process) == Some(STRANGER)
}

#[inline(always)]
fn origin(process: &ProcessKey) -> Option<u8> {
    // SAFETY: any byte is a valid value. If the kernel reuses the entry for another process during the read, the
    // value of that other process is returned.
    unsafe { STRANGERS.get(process) }.copied()
}

/// Whether `task` is in a container and is not a stranger there.
#[inline(always)]
fn is_judged(task: Probed) -> bool {
    is_inside(&task::counted_cgroup(task)) && !is_stranger(&task::process(task))
}

/// `caller`, of the cgroup `from`, made `child`, which is in `cgroup`.
///
/// The child is a stranger if it enters a container from outside or if its parent is a stranger. It inherits the bits
/// of its parent's escapes.
#[inline(always)]
pub fn born<const TYPED: bool>(
    child: Typed,
    cgroup: &CgroupKey,
    caller: Pointer<TYPED>,
    from: &CgroupKey,
) {
    let inside = is_inside(from);
    if !inside && (cgroup == from || !is_inside(cgroup)) {
        return;
    }
    let (parent, child) = (task::process(caller), task::process(child));
    if !inside || is_stranger(&parent) {
        let _ = STRANGERS.insert(child, STRANGER, 0);
    }
    // SAFETY: any number is a valid value. If the kernel reuses the entry for another process during the read, an
    // escape of `child` is reported again or not at all.
    if let Some(told) = unsafe { ESCAPED.get(parent) } {
        let _ = ESCAPED.insert(child, told, 0);
    }
}

/// Forgets a process of a container, which ended.
#[inline(always)]
pub fn ended(process: &ProcessKey) {
    // A removal takes a lock, a lookup does not, and most processes are in neither map.
    if STRANGERS.get_ptr(process).is_some() {
        let _ = STRANGERS.remove(process);
    }
    if ESCAPED.get_ptr(process).is_some() {
        let _ = ESCAPED.remove(process);
    }
}

/// Reports each namespace of the host that `task`, of `cgroup`, is in and its container is not.
///
/// [`How::Unseen`] says that `task` executes a program: if it is in no such namespace, it becomes the container's own.
#[inline(always)]
pub fn check<const TYPED: bool>(task: Pointer<TYPED>, cgroup: &CgroupKey, how: How) {
    let Some(found) = compare(task, cgroup) else {
        return;
    };
    let process = task::process(task);
    if found.outside == 0 {
        if matches!(how, How::Unseen) {
            settle(&process, &found);
        }
        return;
    }
    if !is_stranger(&process) {
        report(task.probed(), &process, found.outside, &found, how);
    }
}

/// Reports the escapes of `task`, of `cgroup`, that no program saw or that found no room in the ring.
///
/// The task iterator calls this for every task, at no event of the task. Two checks in a row must find the process in
/// the namespace: a process that is entering a container may not be marked as a stranger yet.
#[inline(always)]
pub fn find(task: Probed, cgroup: &CgroupKey) {
    let Some(found) = compare(task, cgroup) else {
        return;
    };
    let (process, outside) = (task::process(task), found.outside);
    if outside == 0 || is_stranger(&process) {
        return;
    }
    // SAFETY: any number is a valid value. If the kernel reuses the entry for another process during the read, an
    // escape is reported one check too early or too late.
    let before = unsafe { FOUND.get(process) }.copied().unwrap_or_default();
    let _ = FOUND.insert(process, outside, 0);
    report(task, &process, outside & before, &found, How::Unseen);
}

/// Counts and reports the escapes of a process into the namespace types `outside`, those that were counted or
/// reported before left out.
#[inline(always)]
fn report(task: Probed, process: &ProcessKey, outside: u32, found: &Whereabouts, how: How) {
    // SAFETY: any number is a valid value. If the kernel reuses the entry for another process during the read, an
    // escape is reported again or not at all.
    let mut known = unsafe { ESCAPED.get(process) }.copied().unwrap_or_default();
    let (uncounted, untold) = (outside & !known, outside & !(known >> NAMESPACE_TYPES));
    if untold == 0 {
        return;
    }
    let Some(counts) = counts::of(&found.baseline.cgroup) else {
        return;
    };
    known |= outside;
    for (i, namespace) in NamespaceType::ALL.iter().enumerate() {
        if untold >> i & 1 == 0 {
            continue;
        }
        // SAFETY: `counts` points to a map's value, which is valid while the program runs; the index is the enum's own.
        let counter = unsafe { &raw mut (*counts).escapes[*namespace as usize] };
        counts::add(counter, u64::from(uncounted >> i & 1));
        // An escape that finds no room in the ring is reported at the next call, exec or check.
        if tell(task, counts, *namespace, found.host, how) {
            known |= 1 << (i + NAMESPACE_TYPES);
        }
    }
    let _ = ESCAPED.insert(process, known, 0);
}

/// The process executed a program in its container's namespaces: if it was a stranger, it becomes the container's own.
///
/// A runtime may execute itself in the container's cgroup before it has left all namespaces of the host; the programs
/// take it for the init process then. Its next exec makes the namespaces that it is in by then the baseline.
#[inline(always)]
fn settle(process: &ProcessKey, found: &Whereabouts) {
    let expected = found.baseline;
    if is_stranger(process) {
        let _ = STRANGERS.insert(process, OWN, 0);
    }
    if host_only(&expected.namespaces, &found.now, found.host) != 0
        && counts::init_of(process) == Some(expected.cgroup)
    {
        let baseline = Baseline {
            cgroup: expected.cgroup,
            namespaces: found.now,
        };
        set_baseline(&expected.cgroup, &baseline);
    }
}

/// Sends the record of an escape into `namespace`. Returns whether the record is in the ring.
#[inline(always)]
fn tell(
    task: Probed,
    counts: *mut Counts,
    namespace: NamespaceType,
    host: &NamespaceInodes,
    how: How,
) -> bool {
    // SAFETY: `counts` points to a map's value, which is valid while the program runs.
    let bounds = (unsafe { &raw mut (*counts).escapes_sent }, ESCAPE_BOUNDS);
    emit::send_bounded(
        RecordKind::Escape,
        task,
        bounds,
        |record: *mut EscapeRecord| {
            // SAFETY: `record` points to memory reserved in the ring.
            unsafe {
                (*record).namespace = namespace as u32;
                (*record).inode = host[namespace.own() as usize];
                (*record).how = how as u32;
                (*record).zero = 0;
            }
        },
    )
}

/// The bits of the types in which `now` is the host's namespace and `baseline` is not.
#[inline(always)]
fn host_only(now: &NamespaceInodes, baseline: &NamespaceInodes, host: &NamespaceInodes) -> u32 {
    let mut bits = 0;
    let mut i = 0;
    while i < NAMESPACE_TYPES {
        let namespace = NamespaceType::ALL[i];
        let (own, children) = (namespace.own() as usize, namespace.namespace() as usize);
        let there = same(now[own], host[own]) | same(now[children], host[own]);
        let expected = same(baseline[own], host[own]);
        bits |= (there & (expected ^ 1)) << i;
        i += 1;
    }
    // Without `black_box`, the compiler branches on each bit where a caller only compares the bits with 0.
    core::hint::black_box(bits)
}

/// 1 if two inodes are the same, else 0. It has no branch: 24 branches in a row are more paths than the verifier
/// follows.
#[inline(always)]
fn same(one: u32, other: u32) -> u32 {
    (u64::from(one ^ other).wrapping_sub(1) >> 63) as u32
}
