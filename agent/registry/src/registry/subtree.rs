//! A container is the subtree of cgroups that its engine made: what happens in a cgroup below a container's own one counts
//! for the container, whether the container made that cgroup or its runtime did.

use std::collections::HashMap;
use std::hash::BuildHasher;

use agent_ebpf::{CgroupKey, Counts};

use super::{Cgroup, Id, Registry};
use crate::location::Rank;

impl Registry {
    /// Moves what was counted below containers' own cgroups to those.
    pub fn count_subtrees(&self, counts: &mut HashMap<CgroupKey, Counts, impl BuildHasher>) {
        let below = counts.keys().copied();
        let below = below.filter_map(|key| Some((key, self.own_key(key)?)));
        for (key, own) in below.collect::<Vec<_>>() {
            if let Some(moved) = counts.remove(&key) {
                counts.entry(own).or_default().add(&moved);
            }
        }
    }

    /// Adds what is in cgroups below containers' own ones to those.
    pub fn add_subtrees(&self, sizes: &mut HashMap<CgroupKey, u64, impl BuildHasher>) {
        let below = sizes.iter();
        let below = below.filter_map(|(key, size)| Some((self.own_key(*key)?, *size)));
        for (own, size) in below.collect::<Vec<_>>() {
            *sizes.entry(own).or_default() += size;
        }
    }

    /// The own cgroup of the container that a cgroup is below. `None` where it is below none, or that one is not known.
    pub fn own_of(&self, cgroup: &Cgroup) -> Option<&Cgroup> {
        self.cgroups.get(&self.own_id_of(cgroup)?).map(|it| &**it)
    }

    /// The same by key; in the same hierarchy, where the container's cgroup is known there.
    fn own_key(&self, key: CgroupKey) -> Option<CgroupKey> {
        let own = self.own_of(self.get(key)?)?;
        let same = own.living().find(|it| it.hierarchy == key.hierarchy);
        same.or_else(|| own.living().next())
    }

    fn own_id_of(&self, cgroup: &Cgroup) -> Option<Id> {
        let is_below = cgroup.rank == Rank::Container && !cgroup.own;
        let path = is_below.then_some(&cgroup.container.cgroup)?;
        self.by_path.get(path).copied()
    }

    /// The cgroup that what happens in `id` counts for.
    pub(super) fn account_of(&self, id: Id) -> Id {
        let cgroup = self.cgroups.get(&id);
        let own = cgroup.and_then(|cgroup| self.own_id_of(cgroup));
        own.unwrap_or(id)
    }
}
