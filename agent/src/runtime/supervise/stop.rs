//! Ending a container from outside: its supervisor sees it end, and removes it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Error;
use crate::runtime::cgroup::Cgroup;
use crate::runtime::state::{self, Record, Status, Store};
use crate::sys::fork::send_signal;

/// How long what is killed may take to be gone, and what starts to run.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at the state.
const PAUSE: Duration = Duration::from_millis(2);

/// Asks a container's first process to end, and kills all of it after `patience`. One that has ended is no error.
///
/// # Errors
/// There is none of this name, or it cannot be ended.
pub fn stop(store: &Store, name: &str, patience: Duration) -> Result<(), Error> {
    let process = match first_process(store, name) {
        Err(Error::NotRunning { .. }) => return Ok(()),
        other => other?.2,
    };
    let asked = send_signal(process.as_fd(), libc::SIGTERM);
    match asked {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
            return Err(Error::Signal {
                name: name.into(),
                source: error,
            });
        }
        _ => {}
    }
    if !ends(&process, patience) {
        kill(store, name)?;
    }
    wait_until_unheld(store, name)
}

/// Removes what is known of a container that has ended; with `force`, ends one that runs.
///
/// # Errors
/// There is none of this name, it runs, or it cannot be removed.
pub fn remove(store: &Store, name: &str, force: bool) -> Result<(), Error> {
    if store.waiter(name)?.is_held() {
        if !force {
            return Err(Error::StillRunning { name: name.into() });
        }
        kill(store, name)?;
        wait_until_unheld(store, name)?;
    }
    // Its supervisor may have removed it.
    if let Some(claim) = store.take_over(name)? {
        if let Some(record) = claim.record() {
            super::clean::remains(&record)?;
        }
        claim.remove()?;
    }
    Ok(())
}

/// The record of a container that runs, and its first process.
///
/// # Errors
/// It does not run.
pub fn first_process(store: &Store, name: &str) -> Result<(Record, Pid, OwnedFd), Error> {
    let waiter = store.waiter(name)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let process = match store.read(name).map(|record| record.status) {
            Ok(Status::Running { pid }) => open(pid),
            // A supervisor that is just beginning has not written yet.
            Ok(Status::Creating) | Err(state::Error::Unknown { .. }) => None,
            Ok(Status::Exited { .. }) => return Err(Error::NotRunning { name: name.into() }),
            Err(error) => return Err(error.into()),
        };
        let held = waiter.is_held();
        // A supervisor lets nobody have the number before it has changed the record.
        if let (Some((pid, process)), true, Ok(record)) = (process, held, store.read(name))
            && matches!(record.status, Status::Running { .. })
        {
            return Ok((record, pid, process));
        }
        if !held || Instant::now() > deadline {
            return Err(Error::NotRunning { name: name.into() });
        }
        sleep(PAUSE);
    }
}

fn open(pid: i32) -> Option<(Pid, OwnedFd)> {
    let pid = Pid::from_raw(pid)?;
    Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?))
}

/// Kills all that is in a container's cgroup.
fn kill(store: &Store, name: &str) -> Result<(), Error> {
    // Before it runs there is nothing that could be killed for good.
    let record = match first_process(store, name) {
        Err(Error::NotRunning { .. }) => return Ok(()),
        other => other?.0,
    };
    if let Some(cgroup) = Cgroup::find(&record.cgroup)? {
        cgroup.kill()?;
    }
    Ok(())
}

/// Whether a process ends in time.
fn ends(process: &OwnedFd, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        let mut waited = [PollFd::new(process, PollFlags::IN)];
        match poll(&mut waited, left.as_ref()) {
            Ok(ready) => return ready > 0,
            // A signal came.
            Err(_) if Instant::now() < deadline => {}
            Err(_) => return false,
        }
    }
}

fn wait_until_unheld(store: &Store, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    while store.waiter(name).is_ok_and(|waiter| waiter.is_held()) {
        if Instant::now() > deadline {
            let seconds = PATIENCE.as_secs();
            return Err(Error::Hangs {
                name: name.into(),
                seconds,
            });
        }
        sleep(PAUSE);
    }
    Ok(())
}
