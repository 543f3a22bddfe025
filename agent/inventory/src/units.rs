//! Finds a unit of systemd by its name in the cgroup hierarchies, whether systemd answers or not.

use std::collections::BTreeSet;
use std::path::Path;

use agent_host::Error;
use agent_host::hierarchy::Hierarchies;
use agent_host::membership::Membership;
use agent_host::population;
use agent_host::process::Process;
use agent_host::walk::walk;
use agent_model::container::{Container, ContainerKind};
use agent_registry::unit::UnitNameError;
use agent_registry::{location, unit};

/// A unit that has a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveUnit {
    /// The unit.
    pub container: Container,
    /// Its cgroups.
    pub membership: Membership,
}

/// Why a unit cannot be found.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are those of the sources")]
pub enum UnitError {
    #[error(transparent)]
    Host(#[from] Error),
    #[error(transparent)]
    Name(#[from] UnitNameError),
}

/// Finds the unit that has this name, for `user`, or this cgroup.
///
/// # Errors
/// A hierarchy cannot be read, or the name means several units, or only those of other users and of no systemd.
pub fn find(
    hierarchies: &Hierarchies,
    name: &str,
    user: u32,
) -> Result<Option<LiveUnit>, UnitError> {
    let path = match name {
        path if path.starts_with('/') => Some(path.to_owned()),
        name if unit::is_name(name) => unit::meant(paths(hierarchies, name)?, user)?,
        _ => None,
    };
    let found = path.and_then(|path| {
        let container = unit::at(&path)?;
        let membership = Membership::at(hierarchies, &path);
        Some(LiveUnit {
            container,
            membership,
        })
    });
    Ok(found.filter(|unit| !unit.membership.is_empty()))
}

/// The paths of the units with this name, in all hierarchies.
fn paths(hierarchies: &Hierarchies, name: &str) -> Result<BTreeSet<String>, Error> {
    let mut paths = BTreeSet::new();
    for mounted in hierarchies.all() {
        walk(mounted, |directory| {
            let path = directory.path;
            if path.ends_with(name) && unit::at(&path).is_some_and(|unit| unit.name == name) {
                paths.insert(path);
            }
        })?;
    }
    Ok(paths)
}

/// The unit that a process is in, by its cgroups. `None` where these are a container's, or no unit's.
pub fn of_process(membership: &Membership) -> Option<Container> {
    let places = membership.paths().map(|(_, path)| location::of(path));
    let place = places.max_by_key(|place| (place.rank, place.container.cgroup.len()))?;
    Some(place.container).filter(|it| it.kind == ContainerKind::Unit)
}

impl LiveUnit {
    /// Whether one of these cgroups is the unit's or below it.
    pub fn has(&self, membership: &Membership) -> bool {
        let mut paths = membership.paths();
        paths.any(|(_, path)| {
            let below = path.strip_prefix(&*self.container.cgroup);
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
    }

    /// The process in the unit that started first of those that there are.
    pub fn eldest(&self, root: &Path, hierarchies: &Hierarchies) -> Option<u32> {
        let directories = self.membership.paths().filter_map(|(id, path)| {
            let mounted = hierarchies.by_id(id)?;
            hierarchies.directory(mounted, path)
        });
        let pids = directories.flat_map(|directory| population::processes(&directory));
        let started = pids.filter_map(|pid| {
            let pid = u32::try_from(pid).ok()?;
            let started = Process::new(root, pid).started().ok()?;
            Some((started, pid))
        });
        started.min().map(|(_, pid)| pid)
    }
}

#[cfg(test)]
mod tests {
    use agent_host::fixture::tree;

    use super::*;

    const V2: &str = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    const HYBRID: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
";

    fn stat(pid: u32, started: u32) -> String {
        let zeros = "0 ".repeat(18);
        format!("{pid} (x) S {zeros} {started} 0 0\n").replace("  ", " ")
    }

    #[test]
    fn a_unit_is_found_in_every_layout() {
        for (mountinfo, own, mount, controllers) in [
            (V2, "0::/\n", "sys/fs/cgroup", "memory pids\n"),
            (
                HYBRID,
                "4:memory:/\n1:name=systemd:/\n",
                "sys/fs/cgroup/systemd",
                "",
            ),
        ] {
            let getty = format!("{mount}/system.slice/system-getty.slice/getty@tty1.service");
            let escaped = format!(r"{mount}/system.slice/dev-disk-by\x2dlabel-a.service");
            let files = [
                ("proc/self/mountinfo".to_owned(), mountinfo.to_owned()),
                ("proc/self/cgroup".to_owned(), own.to_owned()),
                ("proc/7/stat".to_owned(), stat(7, 500)),
                ("proc/8/stat".to_owned(), stat(8, 400)),
                (
                    format!("{mount}/cgroup.controllers"),
                    controllers.to_owned(),
                ),
                (format!("{getty}/cgroup.procs"), "7\n".to_owned()),
                (format!("{getty}/below/cgroup.procs"), "8\n".to_owned()),
                (format!("{escaped}/cgroup.procs"), String::new()),
                (
                    "sys/fs/cgroup/memory/lab/cgroup.procs".to_owned(),
                    String::new(),
                ),
            ];
            let files: Vec<_> = files.iter().map(|(path, text)| (&**path, text)).collect();
            let root = tree(&files);
            let hierarchies = Hierarchies::discover(root.path()).unwrap();
            let found = |name: &str| find(&hierarchies, name, 0).unwrap();
            let unit = found("getty@tty1.service").unwrap();
            let path = "/system.slice/system-getty.slice/getty@tty1.service";
            assert_eq!(unit.container.cgroup, path);
            assert_eq!(unit.eldest(root.path(), &hierarchies), Some(8));
            assert_eq!(found(path), Some(unit.clone()));
            let below = Membership::at(&hierarchies, &format!("{path}/below"));
            assert!(unit.has(&below) && !unit.has(&Membership::at(&hierarchies, "/")));
            assert_eq!(of_process(&below), Some(unit.container));

            let unit = found(r"dev-disk-by\x2dlabel-a.service").unwrap();
            assert_eq!(unit.eldest(root.path(), &hierarchies), None);
            assert!(found("system.slice").is_some());
            for name in [
                "tty1.service",
                "getty",
                "getty@tty2.service",
                "below",
                "/lab",
                "/",
            ] {
                assert_eq!(found(name), None, "{name}");
            }
        }
    }
}
