//! The cgroups that a launch uses.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use agent_host::hierarchy::{Hierarchies, Mounted};

use crate::cgroup::tag;

/// The cgroups of the host, and the container's.
#[derive(Debug)]
pub struct Cgroups<'a> {
    /// Those of the host, which the container sees if it is to.
    pub hierarchies: &'a Hierarchies,
    /// The one of v2 that the container is born in.
    pub born: Option<BorrowedFd<'a>>,
    /// The paths of its own, by the hierarchies' controllers.
    pub own: BTreeMap<String, String>,
}

impl Cgroups<'_> {
    /// Where the host has the container's own cgroup in a hierarchy, once it is made.
    pub(super) fn directory(&self, hierarchy: &Mounted) -> Option<PathBuf> {
        let path = self.own.get(&tag(hierarchy))?;
        Some(self.hierarchies.directory(hierarchy, path)?.path)
    }
}
