//! Scans of cgroups and processes that existed before the probes, or whose records were lost.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Instant;

use agent_ebpf::{Baseline, CgroupKey, Namespace, Task};
use agent_host::hierarchy::Hierarchies;
use agent_host::walk::{Dir, walk};
use agent_model::lock::lock;
use agent_model::text;
use agent_registry::location::{Rank, TaskLocation};
use agent_registry::registry::{ROOT_ID, Registry, keys};
use agent_tracer::kernel::counts::KernelCounts;

use agent_model::warn_once::WarnOnce;

/// The number of directories that are added at once, which bounds how long the registry is locked.
const CHUNK: usize = 256;

/// Directories that a scan found.
pub(crate) type FoundDirectories = Vec<(CgroupKey, Dir)>;

/// Finds all cgroups, and passes them to `tell` in chunks, so that no lock is held while directories are read. Returns
/// their keys; `None` if some could not be read.
pub(crate) fn directories(
    hierarchies: &Hierarchies,
    mut tell: impl FnMut(&mut FoundDirectories),
) -> Option<HashSet<CgroupKey>> {
    let mut found = HashSet::new();
    let mut complete = true;
    let mut chunk = FoundDirectories::with_capacity(CHUNK);
    for mounted in hierarchies.all() {
        let walked = walk(mounted, |directory| {
            let key = CgroupKey {
                id: directory.id,
                hierarchy: mounted.id,
                zero: 0,
            };
            found.insert(key);
            chunk.push((key, directory));
            if chunk.len() == CHUNK {
                tell(&mut chunk);
                chunk.clear();
            }
        });
        let why = match walked {
            Ok(walked) if walked.left_out == 0 => continue,
            Ok(_) => "it has too many".to_owned(),
            Err(error) => text::error_line(&error),
        };
        complete = false;
        INCOMPLETE.warn(&format!(
            "cgroups of the hierarchy at {} stay unknown: {why}",
            mounted.mount.display()
        ));
    }
    tell(&mut chunk);
    if complete {
        INCOMPLETE.clear();
    }
    complete.then_some(found)
}

static INCOMPLETE: WarnOnce = WarnOnce::new();

/// Adds directories to the registry.
pub(crate) fn add(registry: &mut Registry, directories: &mut FoundDirectories) {
    for (key, directory) in directories.drain(..) {
        registry.add(key, &directory.path, directory.created);
    }
}

/// Finds the running containers and their init processes, and writes the baselines of all of their processes.
///
/// The init process is the oldest one. A process in the host's mount namespace, such as an engine's runtime before it
/// enters the container, is taken only if there is no other.
pub(crate) fn processes(tasks: &[Task], registry: &mut Registry, counts: &mut KernelCounts) {
    let mnt = Namespace::Mnt as usize;
    let host = registry.host()[mnt];
    let mut sorted: Vec<&Task> = tasks.iter().collect();
    sorted.sort_by_key(|task| (task.namespaces[mnt] == host, task.start_time));
    for task in sorted {
        registry.set_found(task);
    }
    let baselines = set_inits(registry, counts);
    set_baselines(&baselines, tasks, registry, counts);
}

/// Writes the init process of each container to the kernel's maps. Returns the baselines by the containers' paths.
fn set_inits(registry: &Registry, counts: &mut KernelCounts) -> HashMap<String, Baseline> {
    let mut baselines = HashMap::new();
    for container in registry.containers() {
        let Some(init) = container.life.init() else {
            continue;
        };
        // The kernel side counts the init process in one hierarchy, where it may be in a cgroup below its container's.
        let Some(counted) = keys(init).next() else {
            continue;
        };
        let own = container
            .living()
            .find(|key| key.hierarchy == counted.hierarchy);
        let cgroup = own.unwrap_or(counted);
        counts.set_init(cgroup, init);
        let baseline = Baseline {
            cgroup,
            namespaces: init.namespaces,
        };
        baselines.insert(container.container.cgroup.clone(), baseline);
    }
    baselines
}

/// Writes the baseline of each container to the kernel's maps, for its processes and for its cgroups and those below.
fn set_baselines(
    baselines: &HashMap<String, Baseline>,
    tasks: &[Task],
    registry: &Registry,
    counts: &mut KernelCounts,
) {
    let mut below: HashMap<&str, HashSet<CgroupKey>> = HashMap::new();
    let cgroups = registry.all().filter(|it| it.rank == Rank::Container);
    for cgroup in cgroups {
        if let Some((path, baseline)) = baselines.get_key_value(&cgroup.container.cgroup) {
            let counted = |key: &CgroupKey| key.hierarchy == baseline.cgroup.hierarchy;
            let keys = cgroup.living().filter(counted);
            below.entry(path).or_default().extend(keys);
        }
    }
    for task in tasks {
        if let TaskLocation::In(container) = registry.locate(task)
            && let Some((path, _)) = baselines.get_key_value(&container.cgroup)
        {
            below.entry(path).or_default().extend(keys(task).next());
        }
    }
    // Root's containers are written first, so that the maps have room for them.
    let mut sorted: Vec<_> = baselines.iter().collect();
    sorted.sort_by_key(|(_, baseline)| registry.borrower(baseline.cgroup));
    for (path, baseline) in sorted {
        let keys = below.remove(&**path).unwrap_or_default();
        counts.set_baseline(*baseline, keys.into_iter());
        lend(baseline.cgroup, registry, counts);
    }
}

/// Notes which borrower uses the entries of the kernel's maps for a cgroup's init process and baseline.
pub(crate) fn lend(key: CgroupKey, registry: &Registry, counts: &mut KernelCounts) {
    match registry.borrower(key) {
        Some(borrower) => {
            let is_lent = |key| registry.borrower(key).is_some();
            counts.lend(key, borrower.number(), is_lent);
        }
        None => counts.give(key),
    }
}

/// Writes how many OOM kills each cgroup has had to the kernel's maps, so that the programs count later ones only. A kill
/// between this call and the attachment counts with the next one.
pub(crate) fn oom_kills(hierarchies: &Hierarchies, counts: &mut KernelCounts) {
    let Some(memory) = hierarchies.of_controller("memory") else {
        return;
    };
    let mut failed = None;
    let walked = walk(memory, |directory| {
        let key = CgroupKey {
            id: directory.id,
            hierarchy: memory.id,
            zero: 0,
        };
        let files = hierarchies.directory(memory, &directory.path);
        // A cgroup that was removed meanwhile has no next kill.
        let kills = files.and_then(|files| files.oom_kills().ok().flatten());
        if let Some(kills) = kills.filter(|kills| *kills > 0) {
            failed = failed.take().or(counts.set_oom_kills(key, kills).err());
        }
    });
    let failed = failed.map(|error| text::error_line(&error));
    let unread = walked.err().map(|error| text::error_line(&error));
    if let Some(why) = failed.or(unread) {
        tracing::warn!("OOM kills before the start will count with the next one: {why}");
    }
}

/// Removes the pinned counts of cgroups that no longer exist. `kept` has the cgroups with pinned counts.
pub(crate) fn forget_gone(
    kept: HashSet<CgroupKey>,
    registry: &Registry,
    counts: &mut KernelCounts,
) {
    let gone = kept.into_iter();
    for key in gone.filter(|key| key.id != ROOT_ID && registry.get(*key).is_none()) {
        counts.take(key);
    }
}

/// Scans for cgroups after records of made or removed ones were lost.
pub(crate) fn again(
    hierarchies: &Hierarchies,
    registry: &Mutex<Registry>,
    counts: &Mutex<KernelCounts>,
) {
    let known: Vec<CgroupKey> = lock(registry).living().collect();
    let Some(found) = directories(hierarchies, |chunk| add(&mut lock(registry), chunk)) else {
        return;
    };
    let gone = known.into_iter().filter(|key| !found.contains(key));
    for chunk in gone.collect::<Vec<_>>().chunks(CHUNK) {
        let (mut registry, mut counts) = (lock(registry), lock(counts));
        for key in chunk {
            // The streams got a `lost` event for the missing starts and stops.
            registry.remove(*key, &counts.take(*key), Instant::now());
        }
    }
}
