//! Which frequent events the watchers want. The pipeline writes this to the kernel's maps.

use std::collections::HashSet;

use agent_ebpf::{CgroupKey, Hierarchy, RecordKind};
use agent_host::hierarchy::Hierarchies;
use agent_model::container::Container;
use agent_registry::location::{Rank, UNKNOWN};
use agent_registry::path::Runtime;
use agent_registry::registry::{Cgroup, Registry};
use agent_stream::filter::EventFilter;
use agent_stream::kind::EventKind as StreamKind;
use agent_stream::streams::EventStreams;
use agent_tracer::kernel::frequent::FrequentDemand;
use aya::maps::MapError;

/// The kinds that the kernel side sends on demand only.
const ON_DEMAND: [(RecordKind, StreamKind); 3] = [
    (RecordKind::Fork, StreamKind::Fork),
    (RecordKind::Exec, StreamKind::Exec),
    (RecordKind::Exit, StreamKind::Exit),
];

/// What the kernel's maps hold.
pub(crate) struct Demand {
    wanted: FrequentDemand,
    /// The hierarchies by which the kernel side counts tasks, and excludes them.
    hierarchies: Vec<u32>,
    kinds: Vec<RecordKind>,
    excluded: HashSet<CgroupKey>,
}

impl Demand {
    pub(crate) fn new(wanted: FrequentDemand, hierarchies: &Hierarchies) -> Self {
        let controllers = Hierarchy::ALL.iter().map(|hierarchy| hierarchy.name());
        let of_v1 = controllers.filter_map(|name| hierarchies.of_controller(name));
        let v2 = 0;
        Self {
            wanted,
            hierarchies: of_v1.map(|mounted| mounted.id).chain([v2]).collect(),
            kinds: Vec::new(),
            excluded: HashSet::new(),
        }
    }

    /// Whether a watcher wants any frequent kind.
    pub(crate) fn is_some(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// Writes what the streams want. It does not exclude a cgroup that the registry does not know, or one that may
    /// still get a name: an unconfirmed container, or one of docker's without an image.
    ///
    /// # Errors
    /// A map cannot be written.
    pub(crate) fn update(
        &mut self,
        streams: &EventStreams,
        registry: &Registry,
    ) -> Result<(), MapError> {
        let filters = streams.filters();
        let want = |kind: StreamKind| filters.iter().any(|filter| filter.wants(kind));
        let kinds = ON_DEMAND.into_iter().filter(|(_, kind)| want(*kind));
        let kinds: Vec<RecordKind> = kinds.map(|(kind, _)| kind).collect();
        let excluded = if kinds.is_empty() {
            HashSet::new()
        } else {
            self.excludable(&filters, registry)
        };
        // Cgroups are included first and excluded last, so that no event is missed in between.
        for key in self.excluded.difference(&excluded) {
            self.wanted.include(*key);
        }
        self.excluded.retain(|key| excluded.contains(key));
        self.wanted
            .set(kinds.iter().copied(), !excluded.is_empty())?;
        self.kinds = kinds;
        for key in excluded {
            // If the map has no room for a cgroup, the kernel side sends its events although nobody wants them.
            if !self.excluded.contains(&key) && self.wanted.exclude(key).is_ok() {
                self.excluded.insert(key);
            }
        }
        Ok(())
    }

    /// The living cgroups whose tasks' events no watcher wants.
    fn excludable(&self, filters: &[EventFilter], registry: &Registry) -> HashSet<CgroupKey> {
        let is_excluded = |cgroup: &&Cgroup| {
            let container = (cgroup.rank == Rank::Container).then_some(&*cgroup.container);
            let is_named = |it: &Container| {
                let is_dockers = it.runtime == Runtime::Docker.name();
                it.confirmed == Some(true) && (!is_dockers || it.image != UNKNOWN)
            };
            container.is_none_or(is_named) && filters.iter().all(|it| it.excludes_cgroup(container))
        };
        let cgroups = registry.all().filter(is_excluded);
        let directories = cgroups.flat_map(|cgroup| &cgroup.directories);
        let keys = directories.filter(|it| !it.gone).map(|it| it.key);
        keys.filter(|key| self.hierarchies.contains(&key.hierarchy))
            .collect()
    }
}
