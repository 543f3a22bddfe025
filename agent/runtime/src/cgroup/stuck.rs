//! Cgroups in which no process gets on: whoever joins them waits without end.

use agent_host::control::Control;
use agent_model::hierarchy::Version;

use super::{Cgroup, Error, freezer};

/// What v1 says of memory, in a file of lines `NAME VALUE`.
const MEMORY: &str = "memory.oom_control";

impl Cgroup {
    /// Whether a process that joins it gets on.
    ///
    /// # Errors
    /// It does not: the cgroup is frozen, or waits for memory that nobody is killed for.
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
