//! The cgroups of a process or container: its path in each hierarchy (cgroups(7), `/proc/PID/cgroup`).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::File;
use super::hierarchy::{Hierarchies, Mounted};
use super::{Error, path};

/// A path in each hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The hierarchy's id, and the path in it.
    paths: Vec<(u32, String)>,
}

impl Membership {
    /// The cgroups of this process.
    ///
    /// # Errors
    /// `/proc/self/cgroup` cannot be read.
    pub fn own(root: &Path) -> Result<Self, Error> {
        Self::read(root, "self")
    }

    /// The cgroups of a process.
    ///
    /// # Errors
    /// [`Error::Gone`] where there is no such process.
    pub fn of(root: &Path, pid: u32) -> Result<Self, Error> {
        Self::read(root, &pid.to_string())
    }

    /// The cgroup at this path in every hierarchy that has one; empty where none has.
    pub fn at(hierarchies: &Hierarchies, path: &str) -> Self {
        let all = hierarchies.all().iter();
        let there = all.filter(|mounted| {
            let directory = hierarchies.directory(mounted, path);
            directory.is_some_and(|directory| directory.path.is_dir())
        });
        there.map(|mounted| (mounted.id, path.to_owned())).collect()
    }

    fn read(root: &Path, process: &str) -> Result<Self, Error> {
        let file = File::read(root.join("proc").join(process).join("cgroup"))?;
        let paths = file.lines().filter_map(|line| {
            let mut fields = line.splitn(3, |&byte| byte == b':');
            let id = super::file::number(fields.next()?)?;
            Some((id, path::to_text(fields.nth(1)?)))
        });
        Ok(paths.collect())
    }

    /// Returns a copy in which each path for which `is_below` holds is replaced by `path`.
    pub fn above(&self, is_below: impl Fn(&str) -> bool, path: &str) -> Self {
        let paths = self.paths().map(|(id, found)| {
            let above = if is_below(found) { path } else { found };
            (id, above.to_owned())
        });
        paths.collect()
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The path in one hierarchy.
    pub fn path(&self, mounted: &Mounted) -> Option<&str> {
        let mut paths = self.paths.iter();
        paths
            .find(|(id, _)| *id == mounted.id)
            .map(|(_, path)| &**path)
    }

    /// All paths, each with its hierarchy's id.
    pub fn paths(&self) -> impl Iterator<Item = (u32, &str)> {
        self.paths.iter().map(|(id, path)| (*id, &**path))
    }
}

impl FromIterator<(u32, String)> for Membership {
    fn from_iter<T: IntoIterator<Item = (u32, String)>>(paths: T) -> Self {
        Self {
            paths: paths.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::tree;

    #[test]
    fn paths_by_hierarchy() {
        let root = tree(&[
            ("proc/self/cgroup", "4:cpu,cpuacct:/a:b\n0::/\n"),
            ("proc/7/cgroup", "0::/c\n"),
        ]);
        let own = Membership::own(root.path()).unwrap();
        let paths: Vec<_> = own.paths().collect();
        assert_eq!(paths, [(4, "/a:b"), (0, "/")]);
        let other = Membership::of(root.path(), 7).unwrap();
        assert_eq!(other, [(0, "/c".to_owned())].into_iter().collect());
        assert!(matches!(
            Membership::of(root.path(), 8),
            Err(Error::Gone { .. })
        ));
    }
}
