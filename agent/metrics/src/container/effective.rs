//! The limits that hold for a cgroup: its own, and the tightest of those above it.

use std::collections::HashMap;

use agent_host::cgroup::Limit;
use agent_host::hierarchy::Version;
use agent_host::path;
use agent_host::reading::Field;
use agent_limits::limit::{Held, Kind};

use super::spec::own;
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

/// A limit that is looked at in cgroups and in those above them.
pub struct Bounded {
    pub kind: Kind,
    own: fn(&Cgroup) -> Option<Held>,
    /// What the own one is read of.
    fields: &'static [Field],
    /// The tightest of the cgroup and those above it, where the kernel says that.
    tree: Option<Field>,
}

pub const BOUNDED: [Bounded; 4] = [
    Bounded {
        kind: Kind::Memory,
        own: |cgroup| amount(own(cgroup, Field::MemoryLimit, Field::TreeMemoryLimit)),
        fields: &[Field::MemoryLimit],
        tree: Some(Field::TreeMemoryLimit),
    },
    Bounded {
        kind: Kind::MemorySwap,
        own: |cgroup| amount(own(cgroup, Field::SwapLimit, Field::TreeSwapLimit)),
        fields: &[Field::SwapLimit],
        tree: Some(Field::TreeSwapLimit),
    },
    Bounded {
        kind: Kind::CpuQuota,
        own: quota,
        fields: &[Field::CpuQuota, Field::CpuPeriod],
        tree: None,
    },
    Bounded {
        kind: Kind::Pids,
        own: |cgroup| amount(cgroup.reading.limit(Field::ThreadsMax)),
        fields: &[Field::ThreadsMax],
        tree: None,
    },
];

/// A limit, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seen {
    /// There is none, nor a file for it.
    #[default]
    Nothing,
    /// A file holds it.
    Held(Held),
    /// Its file is there, and could not be read.
    Unread,
}

/// What one limit of a cgroup is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Of the hierarchy that has the controller.
    pub version: Option<Version>,
    pub own: Seen,
    /// The tightest of those above it; with the own one where `is_told`.
    pub above: Seen,
    /// Whether the kernel itself says which limit is the tightest.
    is_told: bool,
}

impl Seen {
    pub fn held(&self) -> Option<&Held> {
        match self {
            Self::Held(held) => Some(held),
            Self::Nothing | Self::Unread => None,
        }
    }

    /// The tighter of the two. What could not be read may be tighter than any other.
    fn tighter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unread, _) | (_, Self::Unread) => Self::Unread,
            (Self::Held(one), Self::Held(other)) => Self::Held(one.tighter(other)),
            (Self::Nothing, seen) | (seen, Self::Nothing) => seen,
        }
    }
}

impl Bound {
    /// The tightest of all, where that is known.
    fn effective(&self) -> Option<Held> {
        let own = match &self.own {
            Seen::Unread if self.is_told => Seen::Nothing,
            own => own.clone(),
        };
        own.tighter(self.above.clone()).held().cloned()
    }
}

impl Bounded {
    fn own(&self, cgroup: &Cgroup) -> Seen {
        match (self.own)(cgroup) {
            Some(held) => Seen::Held(held),
            None => unread(self.fields, cgroup),
        }
    }

    fn told(&self, cgroup: &Cgroup) -> Option<Held> {
        amount(cgroup.reading.limit(self.tree?))
    }

    /// Of those above where the kernel tells it, and cannot be asked.
    fn untold(&self, cgroup: &Cgroup) -> Seen {
        unread(self.tree.as_slice(), cgroup)
    }
}

fn unread(fields: &[Field], cgroup: &Cgroup) -> Seen {
    match fields.iter().any(|it| cgroup.reading.is_unread(*it)) {
        true => Seen::Unread,
        false => Seen::Nothing,
    }
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
    match bound.effective()? {
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
                own: bounded.own(cgroup),
                above,
                is_told: bounded.told(cgroup).is_some(),
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
) -> Vec<Seen> {
    let paths = directories.iter().map(|directories| {
        let mut there = directories.iter();
        let directory = there.find(|it| Some(it.key.hierarchy) == hierarchy)?;
        Some(&*directory.path)
    });
    let paths: Vec<Option<&str>> = paths.collect();
    let limited = cgroups.iter().zip(&paths).filter_map(|(cgroup, path)| {
        let own = bounded.own(cgroup);
        let binds = own == Seen::Unread || own.held().is_some_and(|held| !held.is_none());
        binds.then_some(((*path)?, own))
    });
    let limited: HashMap<&str, Seen> = limited.collect();
    let tightest = |path: &str| {
        let above = path::with_parents(path).skip(1);
        let seen = above.filter_map(|path| limited.get(&*path)).cloned();
        seen.reduce(Seen::tighter).unwrap_or_default()
    };
    // Most hosts have few limits, or none.
    let none = limited.is_empty();
    let each = cgroups.iter().zip(&paths);
    // What v1's kernel says is all: a limit above may be out of the agent's sight, or not bind those below.
    each.map(|(cgroup, path)| match bounded.told(cgroup) {
        Some(told) => Seen::Held(told),
        None => {
            let seen = path.filter(|_| !none).map(tightest);
            seen.unwrap_or_default().tighter(bounded.untold(cgroup))
        }
    })
    .collect()
}
