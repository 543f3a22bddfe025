//! What watchers want of the frequent events, told to the kernel.

use std::collections::HashSet;

use agent_ebpf::{CgroupKey, Kind};
use aya::maps::MapError;

use crate::{
    container::{
        place::Rank,
        registry::{Cgroup, Registry},
    },
    kernel::frequent::Wanted,
    watch::{filter::Filter, kind::Kind as StreamKind, streams::Streams},
};

/// The kinds that are sent on demand only.
const ON_DEMAND: [(Kind, StreamKind); 3] = [
    (Kind::Fork, StreamKind::Fork),
    (Kind::Exec, StreamKind::Exec),
    (Kind::Exit, StreamKind::Exit),
];

/// What the kernel was told last.
pub struct Demand {
    wanted: Wanted,
    kinds: Vec<Kind>,
    excluded: HashSet<CgroupKey>,
}

impl Demand {
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            kinds: Vec::new(),
            excluded: HashSet::new(),
        }
    }

    /// Whether anything is wanted.
    pub fn is_some(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// Tells the kernel what the streams want now. A cgroup that is not known yet is not excluded.
    ///
    /// # Errors
    /// Where a map cannot be written.
    pub fn update(&mut self, streams: &Streams, registry: &Registry) -> Result<(), MapError> {
        let filters = streams.filters();
        let want = |kind: StreamKind| filters.iter().any(|filter| filter.wants(kind));
        let kinds = ON_DEMAND.into_iter().filter(|(_, kind)| want(*kind));
        let kinds: Vec<Kind> = kinds.map(|(kind, _)| kind).collect();
        let excluded = if kinds.is_empty() {
            HashSet::new()
        } else {
            excluded(&filters, registry)
        };
        // What is to come goes first, so that nothing is missed between.
        for key in self.excluded.difference(&excluded) {
            self.wanted.include(*key);
        }
        self.wanted
            .set(kinds.iter().copied(), !excluded.is_empty())?;
        for key in excluded.difference(&self.excluded) {
            self.wanted.exclude(*key)?;
        }
        self.kinds = kinds;
        self.excluded = excluded;
        Ok(())
    }
}

/// The living cgroups whose tasks no watcher wants to hear of.
fn excluded(filters: &[Filter], registry: &Registry) -> HashSet<CgroupKey> {
    let is_excluded = |cgroup: &&Cgroup| {
        let container = (cgroup.rank == Rank::Container).then_some(&*cgroup.container);
        filters.iter().all(|it| it.excludes_cgroup(container))
    };
    let cgroups = registry.all().filter(is_excluded);
    let directories = cgroups.flat_map(|cgroup| &cgroup.directories);
    let living = directories.filter(|directory| !directory.gone);
    living.map(|directory| directory.key).collect()
}
