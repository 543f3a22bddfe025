//! The limits that hold for a cgroup: its own, and the tightest of those above it.

use std::collections::HashMap;

use super::spec::own;
use super::{Cgroup, Directories, Source};
use crate::host::cgroup::Limit;
use crate::host::hierarchy::Version;
use crate::host::path;
use crate::host::reading::Field;
use crate::limit::{Held, Kind};
use crate::metrics::catalogue;
use crate::metrics::text::Value;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::EFFECTIVE_MEMORY_LIMIT,
        write: |cgroup, out| out.number(effective(cgroup, Kind::Memory)),
    },
    Source {
        metric: &catalogue::EFFECTIVE_CPU_LIMIT,
        write: |cgroup, out| out.one(effective(cgroup, Kind::CpuQuota).map(Value::Seconds)),
    },
    Source {
        metric: &catalogue::EFFECTIVE_THREADS_MAX,
        write: |cgroup, out| out.number(effective(cgroup, Kind::Pids)),
    },
];

/// A limit that is looked at in cgroups and in those above them.
pub struct Bounded {
    pub kind: Kind,
    own: fn(&Cgroup) -> Option<Held>,
    /// The tightest of the cgroup and those above it, where the kernel says that.
    tree: fn(&Cgroup) -> Option<Held>,
}

pub const BOUNDED: [Bounded; 4] = [
    Bounded {
        kind: Kind::Memory,
        own: |cgroup| amount(own(cgroup, Field::MemoryLimit, Field::TreeMemoryLimit)),
        tree: |cgroup| amount(cgroup.reading.limit(Field::TreeMemoryLimit)),
    },
    Bounded {
        kind: Kind::MemorySwap,
        own: |cgroup| amount(own(cgroup, Field::SwapLimit, Field::TreeSwapLimit)),
        tree: |cgroup| amount(cgroup.reading.limit(Field::TreeSwapLimit)),
    },
    Bounded {
        kind: Kind::CpuQuota,
        own: quota,
        tree: |_| None,
    },
    Bounded {
        kind: Kind::Pids,
        own: |cgroup| amount(cgroup.reading.limit(Field::ThreadsMax)),
        tree: |_| None,
    },
];

/// What one limit of a cgroup is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Of the hierarchy that has the controller.
    pub version: Option<Version>,
    /// What its own file holds; `None` where it is not there.
    pub own: Option<Held>,
    /// The tightest of those above it.
    pub above: Option<Held>,
}

fn amount(limit: Option<Limit>) -> Option<Held> {
    limit.map(Held::Amount)
}

fn quota(cgroup: &Cgroup) -> Option<Held> {
    let quota = cgroup.reading.limit(Field::CpuQuota)?;
    let period = cgroup.number(Field::CpuPeriod).filter(|it| *it > 0)?;
    Some(Held::Quota { quota, period })
}

/// In the unit of the limit's metric: CPU time in billionths of a CPU.
fn effective(cgroup: &Cgroup, kind: Kind) -> Option<u64> {
    let mut bounds = BOUNDED.iter().zip(&cgroup.bounds);
    let (_, bound) = bounds.find(|(bounded, _)| bounded.kind == kind)?;
    let held = bound.own.iter().chain(&bound.above).cloned();
    match held.reduce(Held::tighter)? {
        Held::Amount(Limit::Value(limit)) => Some(limit),
        Held::Quota {
            quota: Limit::Value(quota),
            period,
        } => Some((u128::from(quota) * 1_000_000_000 / u128::from(period)) as u64),
        _ => None,
    }
}

/// Finds the bounds of all; `directories` are those of each. `hierarchy` says which hierarchy has a controller.
pub fn set_bounds(
    cgroups: &mut [Cgroup],
    directories: &[Directories],
    hierarchy: impl Fn(&str) -> Option<(u32, Version)>,
) {
    for (index, bounded) in BOUNDED.iter().enumerate() {
        // The controllers of these limits go by one name.
        let found = hierarchy(bounded.kind.row().controller.v2);
        let above = above(cgroups, directories, found.map(|(id, _)| id), bounded);
        for (cgroup, above) in cgroups.iter_mut().zip(above) {
            cgroup.bounds[index] = Bound {
                version: found.map(|(_, version)| version),
                own: (bounded.own)(cgroup),
                above,
            };
        }
    }
}

/// By cgroup, the tightest of all above it in the hierarchy.
fn above(
    cgroups: &[Cgroup],
    directories: &[Directories],
    hierarchy: Option<u32>,
    bounded: &Bounded,
) -> Vec<Option<Held>> {
    let paths = directories.iter().map(|directories| {
        let mut there = directories.iter();
        let directory = there.find(|it| Some(it.key.hierarchy) == hierarchy)?;
        Some(&*directory.path)
    });
    let paths: Vec<Option<&str>> = paths.collect();
    let limited = cgroups.iter().zip(&paths).filter_map(|(cgroup, path)| {
        let held = (bounded.own)(cgroup).filter(|held| !held.is_none())?;
        Some(((*path)?, held))
    });
    let limited: HashMap<&str, Held> = limited.collect();
    let tightest = |path: &str| {
        let above = path::with_parents(path).skip(1);
        let held = above.filter_map(|path| limited.get(&*path)).cloned();
        held.reduce(Held::tighter)
    };
    // Most hosts have few limits, or none.
    let none = limited.is_empty();
    let each = cgroups.iter().zip(&paths);
    // What v1's kernel says is all: a limit above may be out of the agent's sight, or not bind those below.
    each.map(|(cgroup, path)| match (bounded.tree)(cgroup) {
        None => path.filter(|_| !none).and_then(tightest),
        tree => tree,
    })
    .collect()
}
