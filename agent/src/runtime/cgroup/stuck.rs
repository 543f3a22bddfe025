//! Cgroups in which no process gets on: whoever joins them waits without end.

use super::{Cgroup, Error};
use crate::host::control::Control;

/// A file that says whether what is in a cgroup is stopped, by that cgroup or by one above it.
struct Stopper {
    file: &'static str,
    is_frozen: fn(&str) -> bool,
    thaw: &'static str,
}

const STOPPERS: [Stopper; 3] = [
    Stopper {
        file: "freezer.state",
        is_frozen: |text| text.trim() != "THAWED",
        thaw: "write THAWED to freezer.state, in it or above it",
    },
    // As it is told to be, and as it is.
    Stopper {
        file: "cgroup.freeze",
        is_frozen: |text| text.trim() == "1",
        thaw: "write 0 to cgroup.freeze",
    },
    Stopper {
        file: "cgroup.events",
        is_frozen: |text| text.lines().any(|line| line == "frozen 1"),
        thaw: "write 0 to cgroup.freeze, in it or above it",
    },
];

/// What v1 says of memory, in a file of lines `NAME VALUE`.
const MEMORY: &str = "memory.oom_control";

impl Cgroup {
    /// Whether a process that joins it gets on.
    ///
    /// # Errors
    /// It does not: the cgroup is frozen, or waits for memory that nobody is killed for.
    pub fn check(&self) -> Result<(), Error> {
        for directory in self.directories() {
            for freezer in &STOPPERS {
                // A cgroup that lacks the file is not stopped by it.
                if directory
                    .read(freezer.file)
                    .is_ok_and(|text| (freezer.is_frozen)(&text))
                {
                    let path = directory.path.clone();
                    let thaw = freezer.thaw;
                    return Err(Error::Frozen { path, thaw });
                }
            }
        }
        for (_, way) in &self.made {
            let Some(cgroup) = way.cgroups.last() else {
                continue;
            };
            let kills_nobody = |above: &Control| is_set(above, "oom_kill_disable");
            if is_set(cgroup, "under_oom") && way.cgroups.iter().any(kills_nobody) {
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
