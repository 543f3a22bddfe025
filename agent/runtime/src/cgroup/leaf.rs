//! The leaf: a cgroup of v2 for a process that makes other cgroups beside it. The kernel gives controllers only to
//! cgroups below one without processes, so the process leaves the cgroup above.

use std::io;
use std::path::Path;

use agent_host::control::{Control, PROCESSES};
use agent_host::hierarchy::Hierarchies;
use agent_model::hierarchy::Version;
use rustix::io::Errno;
use rustix::process::getpid;

use super::{Error, enable};

const NAME: &str = "agent-supervisor";

/// The most attempts: another process may remove the empty leaf before this process has joined it.
const TRIES: usize = 100;

/// Returns the other processes in a cgroup; 0 for each that is not in this process's pid namespace.
pub fn others(cgroup: &Control) -> io::Result<Vec<i32>> {
    let mut processes = cgroup.processes()?;
    processes.retain(|pid| *pid != own_pid());
    Ok(processes)
}

/// Moves this process to the leaf below its own cgroup, which is at `path` in the hierarchy. Returns the path of the
/// leaf.
pub fn enter(own: &Control, path: &str) -> Result<String, Error> {
    let failed = |source| Error::Io {
        path: own.path.join(NAME),
        source,
    };
    for _ in 0..TRIES {
        let moved = own
            .make(NAME)
            .and_then(|(leaf, _)| leaf.write(PROCESSES, "0"));
        match moved {
            Ok(()) => return Ok(format!("{}/{NAME}", path.trim_end_matches('/'))),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(Errno::NOENT.into()))
}

/// Moves this process from the leaf at `path` back to the cgroup above, and removes the leaf. Does nothing while
/// another process is in the leaf, or another cgroup is beside it.
pub fn leave(hierarchies: &Hierarchies, path: &str) {
    let Some((above, leaf)) = open(hierarchies, path) else {
        return;
    };
    if !others(&leaf).is_ok_and(|others| others.is_empty()) || !is_only_child(&above) {
        return;
    }
    enable::none(&above);
    // The leaf stays if another process has joined it meanwhile; the last one removes it.
    if above.write(PROCESSES, "0").is_ok() {
        let _ = above.remove(NAME.as_ref());
    }
}

/// Removes the leaf at `path` that a killed supervisor left, unless a process is in it.
pub fn remove(path: &Path) {
    let Ok(hierarchies) = Hierarchies::discover(Path::new("/")) else {
        return;
    };
    let Some((above, _)) = open(&hierarchies, &path.to_string_lossy()) else {
        return;
    };
    let is_only = is_only_child(&above);
    if above.remove(NAME.as_ref()).is_ok() && is_only {
        enable::none(&above);
    }
}

/// Opens the cgroup above the leaf at `path`, and the leaf.
fn open(hierarchies: &Hierarchies, path: &str) -> Option<(Control, Control)> {
    let directory = hierarchies.directory(hierarchies.by_id(0)?, path)?.path;
    if directory.file_name()? != NAME {
        return None;
    }
    let above = Control::open(Version::V2, directory.parent()?).ok()?;
    let leaf = above.below(NAME).ok()?;
    above.is_writable().then_some((above, leaf))
}

fn is_only_child(above: &Control) -> bool {
    above.names().is_ok_and(|names| names.len() <= 1)
}

fn is_gone(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOENT | Errno::NODEV))
}

fn own_pid() -> i32 {
    getpid().as_raw_nonzero().get()
}
