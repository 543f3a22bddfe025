//! The counts of a container: those of the subtree of cgroups that its engine made. What happens in a cgroup below the
//! container's own counts for the container, whether the container or its runtime made that cgroup.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::AddAssign;

use agent_ebpf::{CgroupKey, Counts};

use super::{Cgroup, Id, Registry};
use crate::location::Rank;

impl Registry {
    /// Moves the counts of cgroups below a container's own cgroup to that own cgroup.
    pub fn count_subtrees(&self, counts: &mut HashMap<CgroupKey, Counts, impl BuildHasher>) {
        let below = counts.keys().copied();
        let below = below.filter_map(|key| Some((key, self.own_key(key)?)));
        for (key, own) in below.collect::<Vec<_>>() {
            if let Some(moved) = counts.remove(&key) {
                counts.entry(own).or_default().add(&moved);
            }
        }
    }

    /// Adds the sizes of cgroups below a container's own cgroup to that own cgroup.
    pub fn add_subtrees<T>(&self, sizes: &mut HashMap<CgroupKey, T, impl BuildHasher>)
    where
        T: Copy + Default + AddAssign,
    {
        let below = sizes.iter();
        let below = below.filter_map(|(key, size)| Some((self.own_key(*key)?, *size)));
        for (own, size) in below.collect::<Vec<_>>() {
            *sizes.entry(own).or_default() += size;
        }
    }

    /// The own cgroup of the container that `cgroup` is below; `None` if it is below none, or if the own cgroup is unknown.
    pub fn own_of(&self, cgroup: &Cgroup) -> Option<&Cgroup> {
        self.cgroups.get(&self.own_id_of(cgroup)?).map(|it| &**it)
    }

    /// The key of the own cgroup of the container that the cgroup `key` is below. The key is in the same hierarchy if
    /// the container's cgroup is known there.
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

    /// The cgroup to which the counts of `id` go.
    pub(super) fn account_of(&self, id: Id) -> Id {
        let cgroup = self.cgroups.get(&id);
        let own = cgroup.and_then(|cgroup| self.own_id_of(cgroup));
        own.unwrap_or(id)
    }
}

impl Cgroup {
    /// What was counted in it so far. `counts` has what the kernel side counted in living directories.
    pub fn counted(&self, counts: &HashMap<CgroupKey, Counts>) -> Counts {
        let living = self.directories.iter();
        let living = living.filter_map(|directory| counts.get(&directory.key));
        living.fold(self.past(), |mut sum, counts| {
            sum.add(counts);
            sum
        })
    }

    /// What was counted in its removed directories, and in earlier cgroups at its path.
    pub fn past(&self) -> Counts {
        self.past.as_deref().copied().unwrap_or_default()
    }
}
