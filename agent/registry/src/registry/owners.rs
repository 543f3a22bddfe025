//! Whose each namespace is, by the first processes of containers: a setns looks it up, and there may be as many as a container
//! can make.

use std::sync::Arc;

use agent_ebpf::NamespaceInodes;
use agent_model::container::Container;

use super::{Cgroup, Id, Numbered, Registry};

/// Namespaces, by index among the ten and inode, with the cgroups whose first process is there.
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

/// Where the first process of a cgroup is, while it runs.
fn namespaces(cgroup: &Cgroup, host: &NamespaceInodes) -> Option<NamespaceInodes> {
    let init = cgroup.life.init();
    let init = init.filter(|_| cgroup.is_container() && cgroup.life.running())?;
    let mut namespaces = init.namespaces;
    // The host's are nobody's: most containers are in some.
    for (own, host) in namespaces.iter_mut().zip(host) {
        if own == host {
            *own = 0;
        }
    }
    Some(namespaces)
}

impl Registry {
    /// Changes what is known of a cgroup's life.
    pub(super) fn live<T>(&mut self, id: Id, change: impl FnOnce(&mut Cgroup) -> T) -> Option<T> {
        let cgroup = self.cgroups.get_mut(&id)?;
        let before = namespaces(cgroup, &self.host);
        let changed = change(cgroup);
        let after = namespaces(cgroup, &self.host);
        self.owners.set(id, before, after);
        Some(changed)
    }

    /// A cgroup that became a part of another is on its own no more.
    pub(super) fn forget_life(&mut self, id: Id, cgroup: &Cgroup) {
        let before = namespaces(cgroup, &self.host);
        self.owners.set(id, before, None);
    }

    /// The container whose first process is in this namespace, by its index among the ten
    /// (`agent_ebpf::Namespace`) and its inode; of several the one that was there first.
    ///
    /// A namespace whose number is given out again has no such process: it is nobody's then.
    pub fn owner(&self, namespace: usize, inode: u32) -> Option<&Arc<Container>> {
        let ids = self.owners.0.get(&(namespace, inode))?.iter();
        let owners = ids.filter_map(|id| {
            let cgroup = self.cgroups.get(id)?;
            Some((cgroup.life.init()?.start_time, &cgroup.container))
        });
        owners.min_by_key(|(start, _)| *start).map(|it| it.1)
    }
}
