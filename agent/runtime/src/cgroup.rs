//! Makes, limits, reads back, kills and removes the cgroup of a container in every hierarchy.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

mod apply;
mod begun;
mod devices;
mod enable;
mod end;
mod error;
mod escape;
mod freezer;
mod ground;
pub mod leaf;
mod place;
mod range;
mod scope;
mod stuck;
pub(crate) mod unified;
mod wanted;

use agent_host::control::{Control, TASKS};
use agent_host::hierarchy::{Hierarchies, Mounted};
use agent_model::hierarchy::Version;
pub use apply::Evidence;
pub use begun::Begun;
pub use error::Error;
pub use ground::{Ground, tag};
use place::{Place, Way};
use rustix::fs::OFlags;
pub use wanted::Wanted;

use crate::launch::Entrances;

/// The cgroup of a container: a directory in each hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    made: Vec<(Place, Way)>,
    /// The cgroup's path in v2; without v2, in the first hierarchy of v1.
    path: String,
    evidence: Vec<Evidence>,
}

/// A note for the user: what was left out of the order, or what else the user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(pub String);

impl Cgroup {
    fn new(path: &str) -> Self {
        Self {
            made: Vec::new(),
            path: path.to_owned(),
            evidence: Vec::new(),
        }
    }

    /// Returns the cgroup of a container that has none. It is in no hierarchy.
    pub fn nowhere() -> Self {
        Self::new("")
    }

    fn add(&mut self, place: Place, way: Way, names: &[&str]) {
        if self.made.is_empty() || place.version == Version::V2 {
            self.path = format!("{}/{}", place.path, names.join("/"));
        }
        self.made.push((place, way));
    }

    /// Finds the cgroup at these paths, of which [`tag`] of a hierarchy is the key. Returns `None` where no hierarchy
    /// has it, or it is another user's.
    ///
    /// # Errors
    /// A path is not valid for a cgroup, or a directory cannot be opened.
    pub fn at(
        hierarchies: &Hierarchies,
        cgroups: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, Error> {
        let path = |mounted: &Mounted| cgroups.get(&ground::tag(mounted)).map(String::as_str);
        Self::find(hierarchies, path)
    }

    /// Finds the cgroup at `path`, in all hierarchies that have it. Returns `None` where no hierarchy has it, or it is
    /// another user's.
    ///
    /// # Errors
    /// The path is not valid for a cgroup, or a directory cannot be opened.
    pub fn everywhere(hierarchies: &Hierarchies, path: &Path) -> Result<Option<Self>, Error> {
        let path = path.to_string_lossy();
        names(&path)?;
        Self::find(hierarchies, |_| Some(&path))
    }

    fn find<'a>(
        hierarchies: &Hierarchies,
        path_in: impl Fn(&Mounted) -> Option<&'a str>,
    ) -> Result<Option<Self>, Error> {
        let user = ground::is_user();
        let mut cgroup = Self::new("");
        for mounted in hierarchies.all() {
            let Some(path) = path_in(mounted) else {
                continue;
            };
            let root = mounted.root.trim_end_matches('/');
            let below = path.strip_prefix(root);
            let below = below.filter(|below| below.starts_with('/'));
            let names = names(below.unwrap_or(path))?;
            let place = Place::at(mounted, root, &mounted.mount)?;
            let Some(way) = place.find(&names)? else {
                continue;
            };
            // An ordinary user's record of a container could name any cgroup. Only those that the user may write to
            // count.
            if !user || way.cgroups.last().is_some_and(Control::is_writable) {
                cgroup.add(place, way, &names);
            }
        }
        Ok((!cgroup.made.is_empty()).then_some(cgroup))
    }

    /// Lets this process start others in the cgroup. The kernel lets an ordinary user move a process only between
    /// cgroups of v2 that are below one of theirs. Otherwise this process asks systemd for a scope. If that fails and
    /// the cgroup is also on v1, v2 is left out instead.
    ///
    /// # Errors
    /// The hierarchies cannot be read, or systemd gives no scope from which this process can reach the cgroup.
    pub fn approach(&mut self) -> Result<(), Error> {
        if !ground::is_user() || self.v2_fd().is_none() {
            return Ok(());
        }
        let hierarchies = Hierarchies::discover(Path::new("/"))?;
        let Some(mounted) = hierarchies.by_id(0) else {
            return Ok(());
        };
        match scope::approach(&hierarchies, mounted, &self.path) {
            Err(Error::Apart { .. }) if self.made.len() > 1 => {
                self.made.retain(|(place, _)| place.version == Version::V1);
                Ok(())
            }
            other => other,
        }
    }

    /// Returns the cgroup's path in v2; without v2, in the first hierarchy of v1.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns each limit as it was intended, written and read back.
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }

    /// Returns the cgroup's directory in v2, for `CLONE_INTO_CGROUP`; `None` where it is not in v2.
    pub fn v2_fd(&self) -> Option<BorrowedFd<'_>> {
        let v2 = self.directories().find(|it| it.version == Version::V2);
        v2.map(|control| control.as_fd())
    }

    /// Opens the cgroup's file `tasks` in every hierarchy of v1, for a process that was cloned into the cgroup of v2. A
    /// thread that writes `0` to such a file joins its cgroup.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn tasks(&self) -> Result<Vec<OwnedFd>, Error> {
        let v1 = self.directories().filter(|it| it.version == Version::V1);
        v1.map(|directory| {
            let opened = directory.file(TASKS, OFlags::WRONLY).map(OwnedFd::from);
            opened.map_err(Error::io(&directory.path.join(TASKS)))
        })
        .collect()
    }

    /// Returns the descriptors through which a process joins the cgroup by itself.
    ///
    /// # Errors
    /// A file `tasks` cannot be opened.
    pub fn entrances(&self) -> Result<Entrances<'_>, Error> {
        Ok(Entrances {
            v2: self.v2_fd(),
            v1: self.tasks()?,
        })
    }

    /// Returns the cgroup's directory in each hierarchy.
    fn directories(&self) -> impl Iterator<Item = &Control> {
        self.made.iter().filter_map(|(_, way)| way.cgroups.last())
    }
}

/// Splits a path below the root of a hierarchy into names.
fn names(path: &str) -> Result<Vec<&str>, Error> {
    let names: Option<Vec<_>> = path
        .strip_prefix('/')
        .map(|below| below.split('/').collect());
    let is_name = |name: &&str| !matches!(*name, "" | "." | "..") && !name.contains(['\0', '\n']);
    names
        .filter(|names| names.iter().all(is_name))
        .ok_or_else(|| Error::Path {
            path: path.to_owned(),
        })
}

#[cfg(test)]
mod tests;
