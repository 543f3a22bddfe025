//! Kills the processes in a cgroup, and removes the cgroup.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::time::{Duration, Instant};
use std::{io, thread};

use agent_host::control::Control;
use agent_model::hierarchy::Version;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::place::is_removed;
use super::{Cgroup, Error, freezer};

/// How long killed processes may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first and the longest pause between two looks at the cgroup.
const PAUSES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));

/// The number of looks after which processes are killed one by one, although `cgroup.kill` was written. They may no
/// longer be in the cgroup of v2.
const TRUST: u32 = 20;

impl Cgroup {
    /// Kills all processes in the cgroup and below it, and waits until none is left.
    ///
    /// # Errors
    /// A process is still there after 10 seconds, or the cgroup cannot be read.
    pub fn kill(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        for (look, pause) in (0..).zip(pauses()) {
            match self.kill_once(look) {
                Err(Error::Alive { .. }) if Instant::now() < deadline => thread::sleep(pause),
                killed => return killed,
            }
        }
        Ok(())
    }

    /// Kills all processes in the cgroup and below it, once. Processes that were forked meanwhile are killed at the
    /// next look. `look` counts the looks from 0.
    ///
    /// # Errors
    /// [`Error::Alive`] where a process was there.
    pub fn kill_once(&self, look: u32) -> Result<(), Error> {
        // Linux 5.14 and later have this file, and kill children that are forked meanwhile too. It is written before
        // the cgroups are read, because a container may have made many.
        let told = self
            .v2()
            .is_some_and(|v2| v2.write("cgroup.kill", "1").is_ok());
        let Some((pid, path)) = self.members()?.into_iter().next() else {
            return Ok(());
        };
        if !told || look >= TRUST {
            self.kill_each()?;
        }
        Err(Error::Alive { pid, path })
    }

    /// Kills the processes one by one. They are frozen meanwhile, so that none forks. On v1, a killed process ends only
    /// when it is thawed.
    fn kill_each(&self) -> Result<(), Error> {
        self.freeze();
        let killed = self.kill_members();
        self.thaw();
        killed
    }

    /// Kills the processes through pidfds, so that a process that got the pid of an ended one is not killed.
    fn kill_members(&self) -> Result<(), Error> {
        let pids = |members: Vec<(i32, _)>| -> BTreeSet<i32> {
            members.into_iter().map(|(pid, _)| pid).collect()
        };
        let processes: Vec<_> = pids(self.members()?)
            .into_iter()
            .filter_map(|pid| {
                let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
                Some((pid, process))
            })
            .collect();
        let still = pids(self.members()?);
        for (_, process) in processes.iter().filter(|(pid, _)| still.contains(pid)) {
            // It may have ended meanwhile.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        Ok(())
    }

    /// Freezes the cgroup. Where that fails, processes may fork; the next look finds their children.
    fn freeze(&self) {
        self.directories().for_each(freezer::freeze);
    }

    /// Thaws the cgroup and those below it: on v1, a cgroup below that was frozen separately would stay frozen.
    fn thaw(&self) {
        for directory in self.directories() {
            let thaw = &mut |cgroup: &Control| {
                freezer::thaw(cgroup);
                Ok(true)
            };
            // The next look finds what is still frozen.
            let _ = directory.walk(thaw, &mut |_, _| Ok(()));
        }
    }

    fn v2(&self) -> Option<&Control> {
        self.directories().find(|it| it.version == Version::V2)
    }

    /// Returns the processes in the cgroup and below it, in any hierarchy, each with the path of its cgroup.
    fn members(&self) -> Result<Vec<(i32, std::path::PathBuf)>, Error> {
        let mut members = Vec::new();
        for directory in self.directories() {
            add_members(directory, &mut members).map_err(Error::io(&directory.path))?;
        }
        Ok(members)
    }

    /// Removes the cgroup in one hierarchy after the other, like [`Cgroup::remove`], until it contains a process or a
    /// cgroup. Returns whether it was removed from all hierarchies.
    pub fn remove_empty(&self) -> bool {
        self.made.iter().all(|(_, way)| {
            let [above @ .., parent, cgroup] = &way.cgroups[..] else {
                return true;
            };
            let removed = cgroup
                .path
                .file_name()
                .is_none_or(|name| remove_one(parent, name).is_ok());
            if removed {
                remove_above(above, parent);
            }
            removed
        })
    }

    /// Removes the cgroup and those below it, then those above it that the agent made and that are empty now. It is not
    /// an error if a cgroup is gone already.
    ///
    /// # Errors
    /// A process is still in it, or the kernel refuses.
    pub fn remove(&self) -> Result<(), Error> {
        let mut failed = Ok(());
        for (_, way) in &self.made {
            let removed = remove_way(&way.cgroups);
            failed = failed.and(removed);
        }
        failed
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(PAUSES.0), |pause| Some((*pause * 2).min(PAUSES.1)))
}

fn add_members(cgroup: &Control, members: &mut Vec<(i32, std::path::PathBuf)>) -> io::Result<()> {
    let add = &mut |cgroup: &Control| {
        // 0 stands for a process that is not in this process's pid namespace.
        let seen = cgroup.processes()?.into_iter().filter(|pid| *pid != 0);
        members.extend(seen.map(|pid| (pid, cgroup.path.clone())));
        Ok(true)
    };
    cgroup.walk(add, &mut |_, _| Ok(()))
}

/// Removes the last of these cgroups, and those above it that the agent made and that are empty.
fn remove_way(cgroups: &[Control]) -> Result<(), Error> {
    let [above @ .., parent, cgroup] = cgroups else {
        return Ok(());
    };
    let deadline = Instant::now() + PATIENCE;
    for pause in pauses() {
        match remove_tree(parent, cgroup) {
            Ok(()) => break,
            // A process may leave its cgroup a moment after its parent has reaped it.
            Err(error) if is_busy(&error) && Instant::now() < deadline => thread::sleep(pause),
            Err(source) => {
                let path = cgroup.path.clone();
                return Err(Error::Remove { path, source });
            }
        }
    }
    remove_above(above, parent);
    Ok(())
}

/// Removes the empty cgroups above that the agent made. The next launch makes them again.
fn remove_above(above: &[Control], parent: &Control) {
    let mut child = parent;
    for above in above.iter().rev() {
        let Some(name) = child.path.file_name() else {
            break;
        };
        let is_ours = name == super::place::AGENT || child.is_claimed();
        if !is_ours || above.remove(name).is_err() {
            break;
        }
        child = above;
    }
}

fn remove_tree(parent: &Control, cgroup: &Control) -> io::Result<()> {
    let Some(name) = cgroup.path.file_name() else {
        return Ok(());
    };
    match remove_one(parent, name) {
        Err(error) if is_busy(&error) => {
            let below = &mut |above: &Control, name: &OsStr| remove_one(above, name);
            cgroup.walk(&mut |_| Ok(true), below)?;
            remove_one(parent, name)
        }
        removed => removed,
    }
}

/// Removes an empty cgroup. It is not an error if the cgroup is gone already.
fn remove_one(above: &Control, name: &OsStr) -> io::Result<()> {
    match above.remove(name) {
        Err(error) if is_removed(&error) => Ok(()),
        removed => removed,
    }
}

fn is_busy(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::BUSY | Errno::NOTEMPTY)
    )
}
