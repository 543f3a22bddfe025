//! The limits that hold for a cgroup: its own, and the tightest of those above it.

use std::collections::HashMap;

use agent_host::cgroup_files::controller_of;
use agent_host::path;
use agent_host::reading::Seen;
use agent_model::hierarchy::Version;
use agent_model::limit::{Held, Kind, Limit};

use super::{Cgroup, Directories, Source};
use crate::catalogue;
use crate::text::Value;

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

/// The limits that are looked at in cgroups and in those above them.
pub const BOUNDED: [Kind; 4] = [Kind::Memory, Kind::MemorySwap, Kind::CpuQuota, Kind::Pids];

/// What one limit of a cgroup is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Of the hierarchy that has the controller.
    pub version: Option<Version>,
    pub own: Seen,
    /// The tightest of those above it; where the kernel says it, the tightest of all.
    pub above: Seen,
    /// The tightest of all, where that is known.
    effective: Option<Held>,
}

/// In the unit of the limit's metric: CPU time in billionths of a CPU.
fn effective(cgroup: &Cgroup, kind: Kind) -> Option<u64> {
    let at = BOUNDED.iter().position(|bounded| *bounded == kind)?;
    match *cgroup.bounds[at].effective.as_ref()? {
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
    for (index, kind) in BOUNDED.into_iter().enumerate() {
        // The controllers of these limits have one name on both versions.
        let (id, version) = hierarchy(controller_of(kind, Version::V2)).unzip();
        let paths = directories.iter().map(|directories| {
            let mut there = directories.iter();
            let directory = there.find(|it| Some(it.key.hierarchy) == id)?;
            Some(&*directory.path)
        });
        let paths: Vec<Option<&str>> = paths.collect();
        let own: Vec<Seen> = cgroups.iter().map(|it| it.reading.own(kind)).collect();
        let limited = paths.iter().zip(&own).filter_map(|(path, own)| {
            let binds = *own == Seen::Unread || own.held().is_some_and(|held| !held.is_none());
            binds.then_some(((*path)?, own))
        });
        let limited: HashMap<&str, &Seen> = limited.collect();
        let each = cgroups.iter_mut().zip(&own).zip(&paths);
        for ((cgroup, own), path) in each {
            // What v1's kernel says is all: a limit above may be out of the agent's sight, or not bind those below.
            let (above, effective) = match cgroup.reading.tightest(kind) {
                all @ Seen::Held(_) => (all.clone(), all),
                // Most hosts have few limits, or none.
                unknown => {
                    let path = path.filter(|_| !limited.is_empty());
                    let above = path.map_or(Seen::Nothing, |path| tightest_above(path, &limited));
                    let above = above.tighter(unknown);
                    (above.clone(), above.tighter(own.clone()))
                }
            };
            cgroup.bounds[index] = Bound {
                version,
                own: own.clone(),
                above,
                effective: effective.held().cloned(),
            };
        }
    }
}

fn tightest_above(path: &str, limited: &HashMap<&str, &Seen>) -> Seen {
    let above = path::with_parents(path).skip(1);
    let seen = above.filter_map(|path| limited.get(&*path).copied().cloned());
    seen.reduce(Seen::tighter).unwrap_or_default()
}
