//! What was there before the probes.

use std::{collections::HashSet, time::Instant};

use agent_ebpf::{CgroupKey, Task};

use crate::{
    container::registry::{ROOT_ID, Registry, keys},
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

/// Tells which containers run, and which process is the first of each: the one that started first.
pub fn processes(tasks: &[Task], registry: &mut Registry, counts: &mut KernelCounts) {
    let mut tasks: Vec<&Task> = tasks.iter().collect();
    tasks.sort_by_key(|task| task.start_time);
    for task in tasks {
        let first = registry.set_found(task);
        if first && let Some(key) = keys(task).next() {
            counts.set_init(key, task);
        }
    }
}

/// Tells the programs how many kills each cgroup had, so that the next one counts from there.
pub fn oom_kills(hierarchies: &Hierarchies, registry: &Registry, counts: &mut KernelCounts) {
    let Some(memory) = hierarchies.of_controller("memory") else {
        return;
    };
    for directory in registry.all().flat_map(|cgroup| &cgroup.directories) {
        if directory.key.hierarchy != memory.id {
            continue;
        }
        let files = hierarchies.directory(memory, &directory.path);
        // A cgroup that is gone by now has no next kill.
        let kills = files.and_then(|files| files.oom_kills().ok().flatten());
        if let Some(kills) = kills.filter(|kills| *kills > 0)
            && let Err(error) = counts.set_oom_kills(directory.key, kills)
        {
            tracing::warn!(%error, cgroup = %directory.path, "earlier OOM kills cannot be set");
        }
    }
}

/// Removes what earlier processes counted in cgroups, `kept`, that are gone.
pub fn forget_strangers(kept: HashSet<CgroupKey>, registry: &Registry, counts: &mut KernelCounts) {
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
