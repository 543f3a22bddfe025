//! What was there before the probes.

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

/// Directories that are told at once: so long is the registry locked.
const CHUNK: usize = 256;

/// Cgroups that were found.
pub(crate) type FoundDirectories = Vec<(CgroupKey, Dir)>;

/// Finds every cgroup there is, and gives them to `tell` some at a time, so that nothing is locked meanwhile. Their keys,
/// where all of them could be read.
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

/// Tells the registry of them.
pub(crate) fn add(registry: &mut Registry, directories: &mut FoundDirectories) {
    for (key, directory) in directories.drain(..) {
        registry.add(key, &directory.path, directory.created);
    }
}

/// Tells which containers run, which process is the first of each, and where the others belong.
///
/// The first is the one that started first; but an engine's runtime, which still is among the host's
/// mounts, only where there is no other.
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

/// Tells the programs the first process of each container; where its processes belong, by the
/// container's path.
fn set_inits(registry: &Registry, counts: &mut KernelCounts) -> HashMap<String, Baseline> {
    let mut baselines = HashMap::new();
    for container in registry.containers() {
        let Some(init) = container.life.init() else {
            continue;
        };
        // It is counted by one hierarchy, and may be in a cgroup below its container's there.
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

/// Tells the programs where the processes of each container belong: those that there are, and those
/// that will come into its cgroups and those below.
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
    // Root's find room first.
    let mut sorted: Vec<_> = baselines.iter().collect();
    sorted.sort_by_key(|(_, baseline)| registry.borrower(baseline.cgroup));
    for (path, baseline) in sorted {
        let keys = below.remove(&**path).unwrap_or_default();
        counts.set_baseline(*baseline, keys.into_iter());
        lend(baseline.cgroup, registry, counts);
    }
}

/// Whose is the place that the first process of a cgroup, and what is expected of those there, have in the kernel's maps.
pub(crate) fn lend(key: CgroupKey, registry: &Registry, counts: &mut KernelCounts) {
    match registry.borrower(key) {
        Some(borrower) => {
            let is_lent = |key| registry.borrower(key).is_some();
            counts.lend(key, borrower.number(), is_lent);
        }
        None => counts.give(key),
    }
}

/// Tells the programs how many kills each cgroup had before they are attached, so that they count those after. A kill between
/// is news with the next one.
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
        // A cgroup that is gone by now has no next kill.
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

/// Removes what earlier processes counted in cgroups, `kept`, that are gone.
pub(crate) fn forget_gone(kept: HashSet<CgroupKey>, registry: &Registry, counts: &mut KernelCounts) {
    let gone = kept.into_iter();
    for key in gone.filter(|key| key.id != ROOT_ID && registry.get(*key).is_none()) {
        counts.take(key);
    }
}

/// Looks which cgroups there are after records of births or deaths were lost.
pub(crate) fn again(hierarchies: &Hierarchies, registry: &Mutex<Registry>, counts: &Mutex<KernelCounts>) {
    let known: Vec<CgroupKey> = lock(registry).living().collect();
    let Some(found) = directories(hierarchies, |chunk| add(&mut lock(registry), chunk)) else {
        return;
    };
    let gone = known.into_iter().filter(|key| !found.contains(key));
    for chunk in gone.collect::<Vec<_>>().chunks(CHUNK) {
        let (mut registry, mut counts) = (lock(registry), lock(counts));
        for key in chunk {
            // Streams were told that they miss starts and stops.
            registry.remove(*key, &counts.take(*key), Instant::now());
        }
    }
}
