//! The families of the effective limits: the tightest of a cgroup and its ancestors.

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

/// The limits that are read in cgroups and in their ancestors.
pub const BOUNDED: [Kind; 4] = [Kind::Memory, Kind::MemorySwap, Kind::CpuQuota, Kind::Pids];

/// One limit of a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The version of the hierarchy that has the controller.
    pub version: Option<Version>,
    pub own: Seen,
    /// The tightest limit of the ancestors. Where the kernel reports the effective limit, it is that one.
    pub above: Seen,
    /// The effective limit, where it is known.
    effective: Option<Held>,
}

/// Returns the effective limit in the unit of its metric. That of a quota is a billionth of a CPU.
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

/// Sets the bounds of all cgroups. `directories` has the directories of each. `hierarchy` returns the id and the
/// version of the hierarchy that has a controller.
pub fn set_bounds(
    cgroups: &mut [Cgroup],
    directories: &[Directories],
    hierarchy: impl Fn(&str) -> Option<(u32, Version)>,
) {
    for (index, kind) in BOUNDED.into_iter().enumerate() {
        // The controllers of these limits have the same name on both versions.
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
            // The kernel reports the effective limit on v1. Only it knows ancestors that no mount shows, and which
            // ancestors bind their descendants.
            let (above, effective) = match cgroup.reading.tightest(kind) {
                all @ Seen::Held(_) => (all.clone(), all),
                // Most hosts have few limits or none, so this skips the search for limits of ancestors.
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
