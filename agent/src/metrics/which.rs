//! Which cgroups have series.

use std::{borrow::Cow, collections::HashSet};

use super::container;
use crate::{
    container::registry::{Cgroup, Directory, Registry},
    host::path::with_parents,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    All,
    /// Those of containers, and the root.
    Containers,
}

impl Which {
    /// Those that are to be read: also what is above a container, for its limits hold for the container.
    pub fn of(self, registry: &Registry) -> Vec<&Cgroup> {
        match self {
            Self::All => registry.all().collect(),
            Self::Containers => containers_and_above(registry),
        }
    }

    /// Keeps those that have series.
    pub fn retain(self, cgroups: &mut Vec<container::Cgroup>) {
        cgroups.retain(|cgroup| self == Self::All || cgroup.is_main);
    }
}

fn containers_and_above(registry: &Registry) -> Vec<&Cgroup> {
    let containers = registry.all().filter(|cgroup| cgroup.is_container());
    let above: HashSet<(u32, Cow<'_, str>)> = containers.flat_map(living).flat_map(above).collect();
    let is_above = |directory: &Directory| {
        let path = Cow::Borrowed(&*directory.path);
        above.contains(&(directory.key.hierarchy, path))
    };
    let all = registry.all();
    all.filter(|cgroup| cgroup.is_container() || living(cgroup).any(is_above))
        .collect()
}

fn living(cgroup: &Cgroup) -> impl Iterator<Item = &Directory> {
    cgroup
        .directories
        .iter()
        .filter(|directory| !directory.gone)
}

/// By hierarchy, the paths above a directory.
fn above(directory: &Directory) -> impl Iterator<Item = (u32, Cow<'_, str>)> {
    let paths = with_parents(&directory.path).skip(1);
    paths.map(|path| (directory.key.hierarchy, path))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use agent_ebpf::{CgroupKey, NAMESPACES};

    use super::*;

    #[test]
    fn containers_and_what_limits_them() {
        let mut registry = Registry::new([1; NAMESPACES]);
        let paths = [
            "/pods",
            "/pods/agent",
            "/pods/agent/web",
            "/pods/agent/web/below",
            "/pods/other",
            "/slice",
        ];
        for (id, path) in (2..).zip(paths) {
            let key = CgroupKey {
                id,
                hierarchy: 4,
                zero: 0,
            };
            registry.add(key, path, SystemTime::UNIX_EPOCH);
        }
        let read = |which: Which| {
            let cgroups = which.of(&registry).into_iter();
            let paths = cgroups.map(|cgroup| &*cgroup.directories[0].path);
            paths.collect::<HashSet<_>>()
        };
        assert_eq!(read(Which::All), paths.into_iter().collect());
        let wanted = paths[..3].iter().copied().collect();
        assert_eq!(read(Which::Containers), wanted);
    }
}
