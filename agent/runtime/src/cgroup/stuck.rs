//! Detects cgroups in which no process can run. A process that joins one waits forever.

use agent_host::control::Control;
use agent_model::hierarchy::Version;

use super::{Cgroup, Error, freezer};

/// v1's file on the OOM killer, of lines `NAME VALUE`.
const MEMORY: &str = "memory.oom_control";

impl Cgroup {
    /// Checks that a process that joins the cgroup can run.
    ///
    /// # Errors
    /// The cgroup is frozen; or it is out of memory, and the OOM killer is disabled in it or above it.
    pub fn check(&self) -> Result<(), Error> {
        for (place, way) in &self.made {
            let Some(cgroup) = way.cgroups.last() else {
                continue;
            };
            if let Some(thaw) = freezer::how_to_thaw(place, cgroup) {
                let path = cgroup.path.clone();
                return Err(Error::Frozen { path, thaw });
            }
            let kills_nobody = |above: &Control| is_set(above, "oom_kill_disable");
            if place.version == Version::V1
                && place.has("memory")
                && is_set(cgroup, "under_oom")
                && way.cgroups.iter().any(kills_nobody)
            {
                let path = cgroup.path.clone();
                return Err(Error::OutOfMemory { path });
            }
        }
        Ok(())
    }
}

fn is_set(cgroup: &Control, name: &str) -> bool {
    let text = cgroup.read(MEMORY).unwrap_or_default();
    let mut lines = text.lines();
    lines.any(|line| line.split_once(' ') == Some((name, "1")))
}
