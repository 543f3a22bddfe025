//! The container that owns each namespace: an index by the namespaces of containers' init processes. Each setns looks its
//! namespaces up here.

use std::sync::Arc;

use agent_ebpf::NamespaceInodes;
use agent_model::container::Container;

use super::{Cgroup, Id, Numbered, Registry};

/// The cgroups whose init process is in a namespace. The key is the namespace's index among the ten, and its inode.
#[derive(Debug, Default)]
pub(super) struct NamespaceOwners(Numbered<(usize, u32), Vec<Id>>);

impl NamespaceOwners {
    fn set(&mut self, id: Id, before: Option<NamespaceInodes>, after: Option<NamespaceInodes>) {
        if before == after {
            return;
        }
        for key in before.iter().flat_map(keys) {
            let ids = self.0.get_mut(&key);
            let is_empty = ids.is_some_and(|ids| {
                ids.retain(|it| *it != id);
                ids.is_empty()
            });
            if is_empty {
                self.0.remove(&key);
            }
        }
        for key in after.iter().flat_map(keys) {
            self.0.entry(key).or_default().push(id);
        }
    }
}

fn keys(namespaces: &NamespaceInodes) -> impl Iterator<Item = (usize, u32)> {
    let namespaces = namespaces.iter().copied().enumerate();
    namespaces.filter(|(_, inode)| *inode != 0)
}

/// The namespaces of a cgroup's init process while the container runs, without those of the host.
fn namespaces(cgroup: &Cgroup, host: &NamespaceInodes) -> Option<NamespaceInodes> {
    let init = cgroup.life.init();
    let init = init.filter(|_| cgroup.is_container() && cgroup.life.running())?;
    let mut namespaces = init.namespaces;
    // Most containers are in some namespaces of the host, which no container owns.
    for (own, host) in namespaces.iter_mut().zip(host) {
        if own == host {
            *own = 0;
        }
    }
    Some(namespaces)
}

impl Registry {
    /// Changes a cgroup's life, and keeps the index of namespaces up to date.
    pub(super) fn live<T>(&mut self, id: Id, change: impl FnOnce(&mut Cgroup) -> T) -> Option<T> {
        let cgroup = self.cgroups.get_mut(&id)?;
        let before = namespaces(cgroup, &self.host);
        let changed = change(cgroup);
        let after = namespaces(cgroup, &self.host);
        self.owners.set(id, before, after);
        Some(changed)
    }

    /// Removes the namespaces of a cgroup that becomes a part of another.
    pub(super) fn forget_life(&mut self, id: Id, cgroup: &Cgroup) {
        let before = namespaces(cgroup, &self.host);
        self.owners.set(id, before, None);
    }

    /// The container whose init process is in this namespace, given by its index among the ten (`agent_ebpf::Namespace`)
    /// and its inode. If there are several, the one whose init process is the oldest.
    ///
    /// When the kernel reuses an inode number, the new namespace has no owner until an init process is in it.
    pub fn owner(&self, namespace: usize, inode: u32) -> Option<&Arc<Container>> {
        let ids = self.owners.0.get(&(namespace, inode))?.iter();
        let owners = ids.filter_map(|id| {
            let cgroup = self.cgroups.get(id)?;
            Some((cgroup.life.init()?.start_time, &cgroup.container))
        });
        owners.min_by_key(|(start, _)| *start).map(|it| it.1)
    }
}
