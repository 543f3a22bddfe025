//! Escapes: a process of a container in a namespace of the host that its container does not have.
//!
//! A process is judged by its cgroup's baseline: where the init process was when it first executed
//! a program. A cgroup made below has the same one, as long as its container has not too many of them. An engine's runtime comes into the container's
//! cgroup from outside while it is still in namespaces of the host: it is a stranger there, with all
//! that it starts, until it executes a program inside. From then on it is the container's own, wherever
//! it moves. A process of a container makes no strangers.

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

/// Where the processes of each cgroup with an init process are expected to be.
#[map]
static BASELINES: HashMap<CgroupKey, Baseline> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// The container's cgroup of each that was made below one. Apart from [`BASELINES`]: a container makes as many as it likes,
/// and those that begin later need room there.
#[map]
static BELOW: HashMap<CgroupKey, CgroupKey> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// Processes that came into a container's cgroup from outside, each a [`STRANGER`] there or by now the
/// container's [`OWN`]. Of too many, the oldest strangers are judged, and the oldest of the
/// container's own are taken for what their parent is when they move themselves.
#[map]
static STRANGERS: LruHashMap<ProcessKey, u8> = LruHashMap::with_max_entries(8192, 0);

/// Processes that were found in a namespace of the host when all were looked at, and the bits of its types.
#[map]
static FOUND: LruHashMap<ProcessKey, u32> = LruHashMap::with_max_entries(8192, 0);

const OWN: u8 = 0;
const STRANGER: u8 = 1;

/// Bits of the [`NamespaceType`]s into which a process, or one that it comes from, escaped: those that
/// are counted, and above them those whose record is in the ring. Of too many, the oldest are told of
/// again.
#[map]
static ESCAPED: LruHashMap<ProcessKey, u32> = LruHashMap::with_max_entries(8192, 0);

/// Whether `cgroup` may have an init process: one that is made in a container may not.
#[inline(always)]
pub fn may_begin(cgroup: &CgroupKey) -> bool {
    baseline(cgroup).is_none_or(|baseline| baseline.cgroup == *cgroup)
}

/// `task` is the init process of `cgroup`, and in the namespaces that are the container's.
#[inline(always)]
pub fn begin(cgroup: &CgroupKey, task: Typed) {
    let mut baseline = Baseline {
        cgroup: *cgroup,
        namespaces: Default::default(),
    };
    task::capture_namespaces(task.probed(), &mut baseline.namespaces);
    set_baseline(cgroup, &baseline);
    // In a cgroup that had another init process before, it came as a stranger.
    let _ = STRANGERS.insert(task::process(task), OWN, 0);
}

/// `cgroup` was made in `parent`.
#[inline(always)]
pub fn made(cgroup: &CgroupKey, parent: &CgroupKey) {
    let Some(baseline) = baseline(parent) else {
        return;
    };
    let container = baseline.cgroup;
    let Some(counts) = counts::of(&container) else {
        return;
    };
    // SAFETY: a map's value. Two CPUs that look at once may both find the last place.
    let (below, unwatched) = unsafe { (&raw mut (*counts).below, &raw mut (*counts).unwatched) };
    // SAFETY: likewise.
    let has_room = unsafe { below.read_volatile() } < WATCHED_BELOW;
    if has_room && BELOW.insert(cgroup, &container, 0).is_ok() {
        counts::add(below, 1);
        plain::end_epoch();
    } else {
        counts::add(unwatched, 1);
    }
}

/// `cgroup` was removed.
#[inline(always)]
pub fn removed(cgroup: &CgroupKey) {
    // SAFETY: an entry is written once.
    let Some(container) = (unsafe { BELOW.get(cgroup) }).copied() else {
        return;
    };
    if BELOW.remove(cgroup).is_err() {
        return;
    }
    if let Some(counts) = counts::known(&container) {
        // SAFETY: a map's value.
        let below = unsafe { &raw mut (*counts).below };
        // SAFETY: likewise. A scan makes entries that are in no count.
        if unsafe { below.read_volatile() } > 0 {
            counts::add(below, u64::MAX);
        }
    }
}

#[inline(always)]
fn baseline(cgroup: &CgroupKey) -> Option<&'static Baseline> {
    // SAFETY: an entry that is replaced or removed while it is read is of a cgroup that ends, or
    // whose init process does: what is judged by it then is over.
    let own = unsafe { BASELINES.get(cgroup) };
    if own.is_some() {
        return own;
    }
    // SAFETY: likewise.
    unsafe { BASELINES.get(BELOW.get(cgroup)?) }
}

/// Whether `cgroup` is a container's, or below one.
#[inline(always)]
pub fn is_inside(cgroup: &CgroupKey) -> bool {
    baseline(cgroup).is_some()
}

#[inline(always)]
fn set_baseline(cgroup: &CgroupKey, baseline: &Baseline) {
    if BASELINES.insert(cgroup, baseline, 0).is_err() {
        // Streams report that escapes may be missing, and the metrics say in which cgroup.
        emit::no_room(RecordKind::Escape);
        if let Some(counts) = counts::of(cgroup) {
            // SAFETY: a map's value.
            counts::add(unsafe { &raw mut (*counts).unwatched }, 1);
        }
    }
    plain::end_epoch();
}

/// Where a process is, and where those of its container are expected to be.
struct Whereabouts {
    baseline: &'static Baseline,
    host: &'static NamespaceInodes,
    now: NamespaceInodes,
    /// The bits of the types in which it is in the host's namespace, and its container is not.
    outside: u32,
}

/// `None` where `cgroup` is in no container with a baseline.
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

/// The running process put one, or itself, into `cgroup`.
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
        // Who is not in the host's pid namespace was born in some container, and never leaves it.
        if found.now[Namespace::Pid as usize] != found.host[Namespace::Pid as usize] {
            return;
        }
        // It no longer shows where it was; its parent still is there.
        from = writer.follow(Field::TaskRealParent);
    }
    if !is_judged(from) {
        let _ = STRANGERS.insert(process, STRANGER, 0);
    }
}

/// Whether the process came from outside and is the container's by now.
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
    // SAFETY: an entry that is reused while it is read makes one process a stranger, or none.
    unsafe { STRANGERS.get(process) }.copied()
}

/// Whether `task` is in a container, and no stranger there.
#[inline(always)]
fn is_judged(task: Probed) -> bool {
    is_inside(&task::counted_cgroup(task)) && !is_stranger(&task::process(task))
}

/// `child`, of `cgroup`, was born by `caller`, of `from`.
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
    // SAFETY: an entry that is reused while it is read costs a line more or less.
    if let Some(told) = unsafe { ESCAPED.get(parent) } {
        let _ = ESCAPED.insert(child, told, 0);
    }
}

/// A process of a container ended.
#[inline(always)]
pub fn ended(process: &ProcessKey) {
    // To remove takes a lock, and most processes are in neither.
    if STRANGERS.get_ptr(process).is_some() {
        let _ = STRANGERS.remove(process);
    }
    if ESCAPED.get_ptr(process).is_some() {
        let _ = ESCAPED.remove(process);
    }
}

/// Tells of each namespace of the host that `task`, of `cgroup`, is in, if its container is not.
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

/// Likewise for `task`, of `cgroup`, which did nothing at this moment: no program saw what it did, or what one saw could not be
/// told. It has to be there at two looks: who just comes into a container is not known for a stranger yet.
#[inline(always)]
pub fn find(task: Probed, cgroup: &CgroupKey) {
    let Some(found) = compare(task, cgroup) else {
        return;
    };
    let (process, outside) = (task::process(task), found.outside);
    if outside == 0 || is_stranger(&process) {
        return;
    }
    // SAFETY: as in `born`.
    let before = unsafe { FOUND.get(process) }.copied().unwrap_or_default();
    let _ = FOUND.insert(process, outside, 0);
    report(task, &process, outside & before, &found, How::Unseen);
}

/// Counts and reports the host's namespaces that a process is newly in.
#[inline(always)]
fn report(task: Probed, process: &ProcessKey, outside: u32, found: &Whereabouts, how: How) {
    // SAFETY: as in `born`.
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
        // SAFETY: a map's value.
        let counter = unsafe { &raw mut (*counts).escapes[*namespace as usize] };
        counts::add(counter, u64::from(uncounted >> i & 1));
        // An escape without room in the ring is reported at the next call, exec or check.
        if tell(task, counts, *namespace, found.host, how) {
            known |= 1 << (i + NAMESPACE_TYPES);
        }
    }
    let _ = ESCAPED.insert(process, known, 0);
}

/// The process executed a program among its container's namespaces: it is the container's own. If it
/// is the first one, and has left namespaces of the host since, it was a runtime that executed itself:
/// only now it is where the container is.
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

/// Whether the record is in the ring.
#[inline(always)]
fn tell(
    task: Probed,
    counts: *mut Counts,
    namespace: NamespaceType,
    host: &NamespaceInodes,
    how: How,
) -> bool {
    // SAFETY: a map's value.
    let bounds = (unsafe { &raw mut (*counts).escapes_sent }, ESCAPE_BOUNDS);
    emit::send_bounded(
        RecordKind::Escape,
        task,
        bounds,
        |record: *mut EscapeRecord| {
            // SAFETY: `record` is the ring's.
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
    // Without it the compiler branches on each bit where only all of them are asked for.
    core::hint::black_box(bits)
}

/// 1 where two inodes are one, without a branch: 24 of them in a row are more ways than a verifier
/// follows.
#[inline(always)]
fn same(one: u32, other: u32) -> u32 {
    (u64::from(one ^ other).wrapping_sub(1) >> 63) as u32
}
