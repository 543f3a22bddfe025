//! What was there before the probes.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use agent_ebpf::{Baseline, CgroupKey, Namespace, Task};

use crate::{
    container::{
        place::{Rank, Where},
        registry::{ROOT_ID, Registry, keys},
    },
    host::{hierarchy::Hierarchies, walk::walk},
    kernel::counts::KernelCounts,
};

/// Tells the registry of every cgroup there is. Their keys, where all of them could be read.
pub fn directories(
    hierarchies: &Hierarchies,
    registry: &mut Registry,
) -> Option<HashSet<CgroupKey>> {
    let mut found = HashSet::new();
    let mut complete = true;
    for mounted in hierarchies.all() {
        let walked = walk(mounted, |directory| {
            let key = CgroupKey {
                id: directory.id,
                hierarchy: mounted.id,
                zero: 0,
            };
            registry.add(key, &directory.path, directory.created);
            found.insert(key);
        });
        match walked {
            Ok(walked) if walked.left_out == 0 => {}
            Ok(_) => {
                complete = false;
                tracing::warn!("a hierarchy has too many cgroups: some stay unknown");
            }
            Err(error) => {
                complete = false;
                tracing::warn!(%error, "a hierarchy cannot be scanned: its cgroups stay unknown");
            }
        }
    }
    complete.then_some(found)
}

/// Tells which containers run, which process is the first of each, and where the others belong.
///
/// The first is the one that started first; but an engine's runtime, which still is among the host's
/// mounts, only where there is no other.
pub fn processes(tasks: &[Task], registry: &mut Registry, counts: &mut KernelCounts) {
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
        if let Where::In(container) = registry.locate(task)
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
pub fn lend(key: CgroupKey, registry: &Registry, counts: &mut KernelCounts) {
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
pub fn oom_kills(hierarchies: &Hierarchies, counts: &mut KernelCounts) {
    let Some(memory) = hierarchies.of_controller("memory") else {
        return;
    };
    let walked = walk(memory, |directory| {
        let key = CgroupKey {
            id: directory.id,
            hierarchy: memory.id,
            zero: 0,
        };
        let files = hierarchies.directory(memory, &directory.path);
        // A cgroup that is gone by now has no next kill.
        let kills = files.and_then(|files| files.oom_kills().ok().flatten());
        if let Some(kills) = kills.filter(|kills| *kills > 0)
            && let Err(error) = counts.set_oom_kills(key, kills)
        {
            tracing::warn!(%error, cgroup = %directory.path, "earlier OOM kills cannot be set");
        }
    });
    if let Err(error) = walked {
        tracing::warn!(%error, "earlier OOM kills cannot be set");
    }
}

/// Removes what earlier processes counted in cgroups, `kept`, that are gone.
pub fn forget_gone(kept: HashSet<CgroupKey>, registry: &Registry, counts: &mut KernelCounts) {
    let gone = kept.into_iter();
    for key in gone.filter(|key| key.id != ROOT_ID && registry.get(*key).is_none()) {
        counts.take(key);
    }
}

/// Looks which cgroups there are after records of births or deaths were lost.
pub fn again(hierarchies: &Hierarchies, registry: &mut Registry, counts: &mut KernelCounts) {
    let known: Vec<CgroupKey> = registry.living().collect();
    let Some(found) = directories(hierarchies, registry) else {
        return;
    };
    for key in known.into_iter().filter(|key| !found.contains(key)) {
        // Streams were told that they miss starts and stops.
        registry.remove(key, &counts.take(key), Instant::now());
    }
}
