//! The cgroups that a launch needs to know.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use agent_host::hierarchy::{Hierarchies, Mounted};

use crate::cgroup::tag;

/// The cgroup hierarchies of the host, and the container's cgroups in them.
#[derive(Debug)]
pub struct Cgroups<'a> {
    /// The hierarchies of the host, which the launcher mounts for the container where the spec says so.
    pub hierarchies: &'a Hierarchies,
    /// The directory of the v2 cgroup into which the init process is cloned.
    pub born: Option<BorrowedFd<'a>>,
    /// The paths of the container's cgroups, by the hierarchies' controllers.
    pub own: BTreeMap<String, String>,
}

impl Cgroups<'_> {
    /// Returns the directory of the container's cgroup in a hierarchy of the host. The directory may not exist yet.
    pub(super) fn directory(&self, hierarchy: &Mounted) -> Option<PathBuf> {
        let path = self.own.get(&tag(hierarchy))?;
        Some(self.hierarchies.directory(hierarchy, path)?.path)
    }
}
