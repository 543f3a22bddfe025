//! The limits that hold for a cgroup: the tightest of its own and of those above it.

use std::collections::HashMap;

use super::{Cgroup, Directories, Effective, Source};
use crate::host::path;
use crate::host::reading::Field;
use crate::metrics::catalogue;
use crate::metrics::text::Value;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::EFFECTIVE_MEMORY_LIMIT,
        write: |cgroup, out| out.number(cgroup.effective.memory),
    },
    Source {
        metric: &catalogue::EFFECTIVE_CPU_LIMIT,
        write: |cgroup, out| out.one(cgroup.effective.cpu.map(Value::Seconds)),
    },
];

/// Finds the effective limits of all; `directories` are those of each, by hierarchy the same for
/// all. `memory` and `cpu` are the hierarchies of these controllers.
pub fn set_effective(
    cgroups: &mut [Cgroup],
    directories: &[Directories],
    memory: Option<u32>,
    cpu: Option<u32>,
) {
    let tightest_memory = tightest(cgroups, directories, memory, |cgroup| {
        let own = cgroup.number(Field::MemoryLimit);
        // v1's kernel says it all; a limit above may be out of the agent's sight.
        let tree = cgroup.number(Field::TreeMemoryLimit);
        own.into_iter().chain(tree).min()
    });
    let tightest_cpu = tightest(cgroups, directories, cpu, own_cpu);
    let found = tightest_memory.into_iter().zip(tightest_cpu);
    for (cgroup, (memory, cpu)) in cgroups.iter_mut().zip(found) {
        cgroup.effective = Effective { memory, cpu };
    }
}

/// In billionths of a CPU.
fn own_cpu(cgroup: &Cgroup) -> Option<u64> {
    let quota = cgroup.number(Field::CpuQuota)?;
    let period = cgroup.number(Field::CpuPeriod).filter(|it| *it > 0)?;
    Some((u128::from(quota) * 1_000_000_000 / u128::from(period)) as u64)
}

/// By cgroup, the least of `own` over it and all above it in the hierarchy.
fn tightest(
    cgroups: &[Cgroup],
    directories: &[Directories],
    hierarchy: Option<u32>,
    own: fn(&Cgroup) -> Option<u64>,
) -> Vec<Option<u64>> {
    let paths = directories.iter().map(|directories| {
        let mut there = directories.iter();
        let directory = there.find(|it| Some(it.key.hierarchy) == hierarchy)?;
        Some(&*directory.path)
    });
    let paths: Vec<Option<&str>> = paths.collect();
    let limited = cgroups.iter().zip(&paths);
    let limited: HashMap<&str, u64> = limited
        .filter_map(|(cgroup, path)| Some(((*path)?, own(cgroup)?)))
        .collect();
    let least = |path: &str| {
        let all = path::with_parents(path);
        all.filter_map(|path| limited.get(&*path)).min().copied()
    };
    // Most hosts have few limits, or none.
    let none = limited.is_empty();
    let each = paths.into_iter();
    each.map(|path| path.filter(|_| !none).and_then(least))
        .collect()
}
