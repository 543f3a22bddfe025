//! Killing what is in a cgroup, and removing it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::time::{Duration, Instant};
use std::{io, thread};

use agent_host::control::Control;
use agent_model::hierarchy::Version;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Cgroup, Error, freezer};

/// How long the dead may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));

/// Looks after which those are killed one by one that the kernel was told to kill: they may have left the cgroup that it
/// was told of.
const TRUST: u32 = 20;

impl Cgroup {
    /// Kills all that is in it and below it, and waits until nothing is.
    ///
    /// # Errors
    /// A process does not die.
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

    /// Kills all that is in it and below it, once: what was born meanwhile is met at the next look.
    ///
    /// # Errors
    /// [`Error::Alive`] where something was there.
    pub fn kill_once(&self, look: u32) -> Result<(), Error> {
        // From 5.14 on; it misses no child that is born meanwhile. Before anything is looked at, of which a container may
        // make much.
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

    /// Stopped meanwhile, none has children. v1 lets them die when they go on.
    fn kill_each(&self) -> Result<(), Error> {
        self.freeze();
        let killed = self.kill_members();
        self.thaw();
        killed
    }

    /// By descriptors, so that no process is killed that got the number of one that ended.
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

    /// Where it fails, some may be born and are met at the next look.
    fn freeze(&self) {
        self.directories().for_each(freezer::freeze);
    }

    /// Lets go what is in it and below it: on v1 a cgroup below that was frozen by itself stays so.
    fn thaw(&self) {
        for directory in self.directories() {
            let thaw = &mut |cgroup: &Control| {
                freezer::thaw(cgroup);
                Ok(())
            };
            // What is left frozen is met at the next look.
            let _ = directory.walk(thaw, &mut |_, _| Ok(()));
        }
    }

    fn v2(&self) -> Option<&Control> {
        self.directories().find(|it| it.version == Version::V2)
    }

    /// The processes in it and below it, in any hierarchy, each with where it was found.
    fn members(&self) -> Result<Vec<(i32, std::path::PathBuf)>, Error> {
        let mut members = Vec::new();
        for directory in self.directories() {
            add_members(directory, &mut members).map_err(Error::io(&directory.path))?;
        }
        Ok(members)
    }

    /// Removes it in each hierarchy, as [`Cgroup::remove`], if no process and no cgroup is in it in any.
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

    /// Removes it and those below it, and those above that were made for it where they are empty now. What is gone already is fine.
    ///
    /// # Errors
    /// Something is still in it.
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
        // 0 is one of a pid namespace that this process does not see into.
        let seen = cgroup.processes()?.into_iter().filter(|pid| *pid != 0);
        members.extend(seen.map(|pid| (pid, cgroup.path.clone())));
        Ok(())
    };
    cgroup.walk(add, &mut |_, _| Ok(()))
}

/// Removes the last of these, and the one of all containers where it is empty.
fn remove_way(cgroups: &[Control]) -> Result<(), Error> {
    let [above @ .., parent, cgroup] = cgroups else {
        return Ok(());
    };
    let deadline = Instant::now() + PATIENCE;
    for pause in pauses() {
        match remove_tree(parent, cgroup) {
            Ok(()) => break,
            // Dying takes a moment longer than its parent waits for.
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

/// Removes those above that were made for it: whoever makes the next container makes them again.
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
            cgroup.walk(&mut |_| Ok(()), below)?;
            remove_one(parent, name)
        }
        removed => removed,
    }
}

/// Removes one in which nothing is, unless it is gone already.
fn remove_one(above: &Control, name: &OsStr) -> io::Result<()> {
    match above.remove(name) {
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::NOENT | Errno::NODEV)
            ) =>
        {
            Ok(())
        }
        removed => removed,
    }
}

fn is_busy(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::BUSY | Errno::NOTEMPTY)
    )
}
