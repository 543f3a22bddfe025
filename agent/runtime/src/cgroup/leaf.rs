//! A cgroup of v2 for a process that makes others beside it: the kernel gives controllers only to those below a cgroup in
//! which no process is.

use std::io;
use std::path::Path;

use agent_host::control::{Control, PROCESSES};
use agent_host::hierarchy::Hierarchies;
use agent_model::hierarchy::Version;
use rustix::io::Errno;
use rustix::process::getpid;

use super::{Error, enable};

const NAME: &str = "agent-supervisor";

/// One that was empty may be removed before this process is in it.
const TRIES: usize = 100;

/// The processes in a cgroup that are not this one; 0 for one of a pid namespace that it does not see.
pub fn others(cgroup: &Control) -> io::Result<Vec<i32>> {
    let mut processes = cgroup.processes()?;
    processes.retain(|pid| *pid != own_pid());
    Ok(processes)
}

/// Moves this process to a cgroup below its own, which is at `path` in the hierarchy; the path of the new one.
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

/// Moves this process, the last in the leaf at `path`, back to the cgroup above, and removes the leaf.
pub fn leave(hierarchies: &Hierarchies, path: &str) {
    let Some((above, leaf)) = open(hierarchies, path) else {
        return;
    };
    if !others(&leaf).is_ok_and(|others| others.is_empty()) || !is_only_child(&above) {
        return;
    }
    enable::none(&above);
    // While others use it, it stays: the last of them removes it.
    if above.write(PROCESSES, "0").is_ok() {
        let _ = above.remove(NAME.as_ref());
    }
}

/// Removes the leaf at `path` of a supervisor that was killed, where nobody else is in it.
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

/// The cgroup above, and the leaf.
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
