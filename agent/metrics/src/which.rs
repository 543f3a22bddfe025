//! The choice of the cgroups that have series (`--cgroups`).

use std::borrow::Cow;
use std::collections::HashSet;

use agent_host::path::with_parents;
use agent_registry::registry::{Cgroup, CgroupDirectory};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    All,
    /// The cgroups of containers, and the root.
    Containers,
}

impl Which {
    /// Tells whether a cgroup has series if there is room.
    pub fn wants(self, cgroup: &Cgroup) -> bool {
        self == Self::All || cgroup.is_container()
    }
}

/// Returns the ancestors of `cgroups`, by hierarchy and path. Their limits bind the cgroups.
pub fn above<'a>(cgroups: impl Iterator<Item = &'a Cgroup>) -> HashSet<(u32, Cow<'a, str>)> {
    cgroups.flat_map(living).flat_map(parents).collect()
}

/// Tells whether the cgroup is one of the ancestors that [`above`] returned.
pub fn is_among(cgroup: &Cgroup, above: &HashSet<(u32, Cow<'_, str>)>) -> bool {
    living(cgroup).any(|directory| {
        let path = Cow::Borrowed(&*directory.path);
        above.contains(&(directory.key.hierarchy, path))
    })
}

fn living(cgroup: &Cgroup) -> impl Iterator<Item = &CgroupDirectory> {
    cgroup
        .directories
        .iter()
        .filter(|directory| !directory.gone)
}

/// Returns the hierarchy and the path of each ancestor of a directory.
fn parents(directory: &CgroupDirectory) -> impl Iterator<Item = (u32, Cow<'_, str>)> {
    let paths = with_parents(&directory.path).skip(1);
    paths.map(|path| (directory.key.hierarchy, path))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use agent_ebpf::{CgroupKey, NAMESPACES};
    use agent_registry::registry::Registry;

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
        let wanted = |which: Which| {
            let wanted = || registry.all().filter(|cgroup| which.wants(cgroup));
            let above = above(wanted());
            let read = wanted().chain(registry.all().filter(|it| is_among(it, &above)));
            let paths = read.map(|cgroup| &*cgroup.directories[0].path);
            paths.collect::<HashSet<_>>()
        };
        assert_eq!(wanted(Which::All), paths.into_iter().collect());
        let some = paths[..3].iter().copied().collect();
        assert_eq!(wanted(Which::Containers), some);
    }
}
