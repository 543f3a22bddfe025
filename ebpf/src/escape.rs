//! Escapes: a process of a container in a namespace of the host that its container does not have.
//!
//! A process is judged by its cgroup's baseline: where the first process was when it first executed
//! a program. A cgroup made below has the same one. An engine's runtime comes into the container's
//! cgroup from outside while it is still in namespaces of the host: it is a stranger there, with all
//! that it starts, until it executes a program inside. A process of a container makes no strangers.

use agent_ebpf::{
    Baseline, COUNTED_CGROUPS, CgroupKey, Counts, Escape, Field, How, Kind, NAMESPACE_TYPES,
    NamespaceType, Namespaces, ProcessKey,
};
use aya_ebpf::{
    macros::map,
    maps::{HashMap, LruHashMap},
};

use crate::{
    config, counts, emit,
    task::{self, Pointer, Probed, Typed},
};

/// Where the processes of each cgroup with a first process are expected to be.
#[map]
static BASELINES: HashMap<CgroupKey, Baseline> = HashMap::with_max_entries(COUNTED_CGROUPS, 0);

/// Processes that came into a container's cgroup from outside. Of too many, the oldest are judged.
#[map]
static STRANGERS: LruHashMap<ProcessKey, u8> = LruHashMap::with_max_entries(8192, 0);

/// Bits of the [`NamespaceType`]s into which a process, or one that it comes from, escaped. Of too
/// many, the oldest are told of again.
#[map]
static ESCAPED: LruHashMap<ProcessKey, u32> = LruHashMap::with_max_entries(8192, 0);

/// Whether `cgroup` may have a first process: one that is made in a container may not.
#[inline(always)]
pub fn may_begin(cgroup: &CgroupKey) -> bool {
    baseline(cgroup).is_none_or(|baseline| baseline.cgroup == *cgroup)
}

/// `task` is the first process of `cgroup`, and in the namespaces that are the container's.
#[inline(always)]
pub fn begin(cgroup: &CgroupKey, task: Typed) {
    let mut baseline = Baseline {
        cgroup: *cgroup,
        namespaces: Default::default(),
    };
    task::capture_namespaces(task.probed(), &mut baseline.namespaces);
    set_baseline(cgroup, &baseline);
}

/// `cgroup` was made in `parent`.
#[inline(always)]
pub fn made(cgroup: &CgroupKey, parent: &CgroupKey) {
    if let Some(known) = baseline(parent) {
        set_baseline(cgroup, known);
    }
}

#[inline(always)]
fn baseline(cgroup: &CgroupKey) -> Option<&'static Baseline> {
    // SAFETY: an entry that is replaced or removed while it is read is of a cgroup that ends, or
    // whose first process does: what is judged by it then is over.
    unsafe { BASELINES.get(cgroup) }
}

#[inline(always)]
fn set_baseline(cgroup: &CgroupKey, baseline: &Baseline) {
    if BASELINES.insert(cgroup, baseline, 0).is_err() {
        // Whoever waits for escapes hears that some may be missed.
        emit::no_room(Kind::Escape);
    }
}

/// The running process put one, or itself, into `cgroup`.
#[inline(always)]
pub fn entered(task: Typed, cgroup: &CgroupKey) {
    let (Some(baseline), Some(host)) = (baseline(cgroup), config::host()) else {
        return;
    };
    let mut now = Namespaces::default();
    task::capture_namespaces(task, &mut now);
    if host_only(&now, &baseline.namespaces, host) == 0 {
        return;
    }
    let (process, writer) = (task::process(task), task::current());
    // Of one that moved itself it no longer shows where it was; its parent still is.
    let from = if task::process(writer) == process {
        writer.follow(Field::TaskRealParent)
    } else {
        writer
    };
    if !is_judged(from) {
        let _ = STRANGERS.insert(process, 1, 0);
    }
}

/// Whether `task` is in a container, and no stranger there.
#[inline(always)]
fn is_judged(task: Probed) -> bool {
    baseline(&task::counted_cgroup(task)).is_some()
        && STRANGERS.get_ptr(task::process(task)).is_none()
}

/// A process of `from` was born by the running one, of `cgroup`.
#[inline(always)]
pub fn born(child: Typed, cgroup: &CgroupKey, from: &CgroupKey) {
    let inside = baseline(from).is_some();
    if !inside && (cgroup == from || baseline(cgroup).is_none()) {
        return;
    }
    let (parent, child) = (task::process(task::current()), task::process(child));
    if !inside || STRANGERS.get_ptr(parent).is_some() {
        let _ = STRANGERS.insert(child, 1, 0);
    }
    // SAFETY: an entry that is reused while it is read costs a line more or less.
    if let Some(told) = unsafe { ESCAPED.get(parent) } {
        let _ = ESCAPED.insert(child, told, 0);
    }
}

/// A process of `cgroup` ended.
#[inline(always)]
pub fn ended(process: &ProcessKey, cgroup: &CgroupKey) {
    if baseline(cgroup).is_some() && STRANGERS.get_ptr(process).is_some() {
        let _ = STRANGERS.remove(process);
    }
}

/// Tells of each namespace of the host that `task`, of `cgroup`, is in, if its container is not.
#[inline(always)]
pub fn check<const TYPED: bool>(task: Pointer<TYPED>, cgroup: &CgroupKey, how: How) {
    let (Some(baseline), Some(host)) = (baseline(cgroup), config::host()) else {
        return;
    };
    let mut now = Namespaces::default();
    task::capture_namespaces(task, &mut now);
    let outside = host_only(&now, &baseline.namespaces, host);
    let process = task::process(task);
    if STRANGERS.get_ptr(process).is_some() {
        // An exec among the container's namespaces is the container's own program.
        if outside == 0 && matches!(how, How::Unseen) {
            let _ = STRANGERS.remove(process);
        }
        return;
    }
    if outside == 0 {
        return;
    }
    // SAFETY: as in `born`.
    let told = unsafe { ESCAPED.get(process) }.copied().unwrap_or_default();
    let new = outside & !told;
    if new == 0 {
        return;
    }
    let _ = ESCAPED.insert(process, told | new, 0);
    let Some(counts) = counts::of(&baseline.cgroup) else {
        return;
    };
    for (i, namespace) in NamespaceType::ALL.iter().enumerate() {
        if new >> i & 1 == 1 {
            tell(task.probed(), counts, *namespace, host, how);
        }
    }
}

#[inline(always)]
fn tell(task: Probed, counts: *mut Counts, namespace: NamespaceType, host: &Namespaces, how: How) {
    // SAFETY: a map's value.
    counts::add(unsafe { &raw mut (*counts).escapes[namespace as usize] }, 1);
    emit::send_bounded(Kind::Escape, task, counts, |record: *mut Escape| {
        // SAFETY: `record` is the ring's.
        unsafe {
            (*record).namespace = namespace as u32;
            (*record).inode = host[namespace.own() as usize];
            (*record).how = how as u32;
            (*record).zero = 0;
        }
    });
}

/// The bits of the types in which `now` is the host's namespace and `baseline` is not.
#[inline(always)]
fn host_only(now: &Namespaces, baseline: &Namespaces, host: &Namespaces) -> u32 {
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
