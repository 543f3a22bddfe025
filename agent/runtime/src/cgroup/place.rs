//! Makes and finds a container's cgroup in one hierarchy, with the directories on the way there.

use std::io;
use std::path::Path;

use agent_host::control::Control;
use agent_host::hierarchy::Mounted;
use agent_model::hierarchy::Version;
use rustix::io::Errno;

use super::Error;

/// The cgroup that contains the cgroups of `agent run`'s containers.
pub(super) const AGENT: &str = "agent";

/// The most attempts: another process may remove an empty parent before the child is made.
const TRIES: usize = 100;

/// A hierarchy, and the existing cgroup in it below which others are made: the base.
#[derive(Debug)]
pub(super) struct Place {
    pub version: Version,
    pub controllers: Vec<String>,
    pub base: Control,
    /// The base's path in the hierarchy; empty for the root.
    pub path: String,
    /// Whether the caller is an ordinary user.
    pub user: bool,
    /// Whether the base is delegated to this user.
    pub delegated: bool,
    /// Whether the base has processes of its own. It then passes no controllers on. The kernel would accept only
    /// threaded ones (pids, cpu), and would make the cgroups below unusable for processes (cgroups(7), threaded mode).
    pub populated: bool,
}

/// A cgroup, and the cgroups above it that may have to pass controllers on.
#[derive(Debug)]
pub(super) struct Way {
    /// The cgroups from the base down to the container's.
    pub cgroups: Vec<Control>,
    /// How many of the first cgroups are not the agent's, so that it does not change them.
    pub others: usize,
}

impl Place {
    /// Opens the cgroup at `path` in a hierarchy as a base. `directory` is its directory.
    pub(super) fn at(mounted: &Mounted, path: &str, directory: &Path) -> Result<Self, Error> {
        let base = Control::open(mounted.version, directory);
        Ok(Self {
            version: mounted.version,
            controllers: mounted.controllers.clone(),
            base: base.map_err(Error::io(directory))?,
            path: path.trim_end_matches('/').to_owned(),
            user: false,
            delegated: false,
            populated: false,
        })
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    /// Makes the cgroup with these nested names, and the missing cgroups above it. Another launcher may remove one of these
    /// meanwhile, because it is empty.
    pub(super) fn make(&self, names: &[&str]) -> Result<Way, Error> {
        for _ in 0..TRIES {
            match self.try_make(names) {
                Err(Error::Io { source, .. }) if is_removed(&source) => {}
                made => return made,
            }
        }
        self.try_make(names)
    }

    /// Returns the way to the cgroup with these nested names; `None` where it does not exist.
    pub(super) fn find(&self, names: &[&str]) -> Result<Option<Way>, Error> {
        let base = self.base.again().map_err(Error::io(&self.base.path))?;
        let mut cgroups = vec![base];
        for name in names {
            let parent = cgroups.last().unwrap_or(&self.base);
            match parent.below(name) {
                Ok(child) => cgroups.push(child),
                Err(error) if is_removed(&error) => return Ok(None),
                Err(error) => return Err(Error::io(&parent.path.join(name))(error)),
            }
        }
        let others = cgroups.len();
        Ok(Some(Way { cgroups, others }))
    }

    fn try_make(&self, names: &[&str]) -> Result<Way, Error> {
        let base = self.base.again().map_err(Error::io(&self.base.path))?;
        let mut way = Way {
            cgroups: vec![base],
            others: usize::from(!self.delegated || self.populated),
        };
        let mut is_new = false;
        let mut is_ours = self.delegated;
        for name in names {
            let parent = way.cgroups.last().unwrap_or(&self.base);
            let path = parent.path.join(name);
            let (child, made) = parent.make(name).map_err(Error::io(&path))?;
            is_ours = is_ours || made || *name == AGENT || (self.user && child.is_writable());
            if self.has("cpuset")
                && self.version == Version::V1
                && let Err(error) = inherit(parent, &child)
            {
                if made {
                    // The error is of more use than one of the removal.
                    let _ = parent.remove(name.as_ref());
                }
                return Err(Error::io(&path)(error));
            }
            if self.has("memory") && self.version == Version::V1 && is_ours {
                count_below(&child);
            }
            if !is_ours {
                way.others += 1;
            }
            is_new = made;
            if made && way.cgroups.len() < names.len() {
                child.claim();
            }
            way.cgroups.push(child);
        }
        if is_new {
            return Ok(way);
        }
        let path = self.base.path.join(names.join("/"));
        Err(Error::Exists { path })
    }
}

/// Whether a cgroup was removed. In one that was, the kernel finds nothing (ENOENT), and makes and reads nothing (ENODEV).
pub(super) fn is_removed(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NODEV)
    )
}

/// Copies the parent's CPUs and memory nodes to a cpuset of v1. A new cpuset is empty, and the kernel lets no process
/// join it.
fn inherit(parent: &Control, child: &Control) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if child.read(file)?.trim().is_empty() {
            child.write(file, parent.read(file)?.trim())?;
        }
    }
    Ok(())
}

/// Makes a cgroup of v1 count the memory of the cgroups below it. Linux 5.11 and later always do; before, v1 counts it
/// only with `memory.use_hierarchy`.
fn count_below(cgroup: &Control) {
    const FILE: &str = "memory.use_hierarchy";
    if cgroup.read(FILE).is_ok_and(|text| text.trim() == "0") {
        // The kernel refuses this where cgroups are below it already. They then stay as they are.
        let _ = cgroup.write(FILE, "1");
    }
}
