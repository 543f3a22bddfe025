//! Ends a container from another process than its supervisor. The supervisor notices the end, and removes the
//! container.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use agent_host::pinned::Pinned;
use agent_host::process::Process;
use agent_model::units::Signal;
use agent_sys::fork::send_signal;

use super::{Error, clean, say};
use crate::state::{self, LockHolder, ProcessCondition, Record, Status, Store, Waiter, ends};

/// How long a killed process may take to end, and a container to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time between two readings of the state.
const PAUSE: Duration = Duration::from_millis(2);

/// Sends a container's init process `signal`, or else its stop signal, and kills the whole container after `patience`. A
/// container that has already ended is not an error.
///
/// # Errors
/// There is no container of this name, or the container cannot be ended.
pub fn stop(
    store: &Store,
    name: &str,
    signal: Option<Signal>,
    patience: Duration,
) -> Result<(), Error> {
    let (record, process) = match first_process(store, name) {
        Err(Error::NotRunning { .. }) => return Ok(()),
        other => other?,
    };
    let signal = signal.or(record.stop_signal);
    send(name, &process, signal.map_or(libc::SIGTERM, |it| it.0))?;
    if !ends(&process, patience) {
        kill(&record, &process)?;
    }
    wait_for_supervisor(store, name)
}

/// Sends a signal to a container's init process. SIGKILL kills the whole container, and then this function waits until
/// nothing of the container is left.
///
/// # Errors
/// There is no running container of this name, or the signal cannot be sent.
pub fn signal(store: &Store, name: &str, signal: Signal) -> Result<(), Error> {
    let (record, process) = first_process(store, name)?;
    if signal.0 != libc::SIGKILL {
        return send(name, &process, signal.0);
    }
    kill(&record, &process)?;
    wait_for_supervisor(store, name)
}

/// Sends a signal to a process. One that has ended is not an error.
fn send(name: &str, process: &Pinned, signal: i32) -> Result<(), Error> {
    match send_signal(process.as_fd(), signal) {
        Err(source) if source.raw_os_error() != Some(libc::ESRCH) => {
            let name = name.into();
            Err(Error::Signal { name, source })
        }
        _ => Ok(()),
    }
}

/// Removes the state of a container that has ended. With `force`, kills a running container first.
///
/// # Errors
/// There is no container of this name, the container runs, or it cannot be removed.
pub fn remove(store: &Store, name: &str, force: bool) -> Result<(), Error> {
    if store.waiter(name)?.is_held() {
        if !force {
            return Err(Error::StillRunning { name: name.into() });
        }
        end(store, name)?;
    }
    // The supervisor may have removed the state.
    if let Some(claim) = store.take_over(name)? {
        if let Some(record) = claim.record() {
            clean::remains(&record)?;
        }
        claim.remove()?;
    }
    Ok(())
}

/// Kills a container. Kills its supervisor too, where that does not clean up in time.
fn end(store: &Store, name: &str) -> Result<(), Error> {
    let ended = match first_process(store, name) {
        Ok((record, process)) => {
            kill(&record, &process)?;
            wait_for_supervisor(store, name)
        }
        Err(Error::NotRunning { .. }) => wait_for_supervisor(store, name),
        // The supervisor would go on to start the container. When it is killed, the processes that it has launched die
        // too.
        creating => creating.map(drop),
    };
    match ended {
        Err(Error::Supervisor { .. } | Error::Creating { .. }) => kill_supervisor(store, name),
        ended => ended,
    }
}

/// Finds the record and the init process of a running container.
///
/// # Errors
/// [`Error::NotRunning`], or [`Error::Creating`] where the supervisor has not started the container in time.
pub(super) fn first_process(store: &Store, name: &str) -> Result<(Record, Pinned), Error> {
    let waiter = store.waiter(name)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = match store.read(name).map(|record| record.status) {
            Ok(Status::Running { pid }) => still_running(store, name, &waiter, pid),
            // A supervisor that has just begun has written no record yet.
            Ok(Status::Creating) | Err(state::Error::Unknown { .. }) => None,
            Ok(Status::Exited { .. }) => return Err(Error::NotRunning { name: name.into() }),
            Err(error) => return Err(error.into()),
        };
        if let Some(found) = found {
            return Ok(found);
        }
        let Some(supervisor) = waiter.holder() else {
            return Err(Error::NotRunning { name: name.into() });
        };
        if Instant::now() > deadline {
            let (name, seconds) = (name.into(), PATIENCE.as_secs());
            return Err(Error::Creating {
                name,
                seconds,
                supervisor,
            });
        }
        sleep(PAUSE);
    }
}

/// Finds the init process of a container that runs at this moment.
pub fn running(store: &Store, name: &str) -> Option<Pinned> {
    let waiter = store.waiter(name).ok()?;
    let Status::Running { pid } = store.read(name).ok()?.status else {
        return None;
    };
    Some(still_running(store, name, &waiter, pid)?.1)
}

/// Returns the record and the init process of a container, if `pid` is still that process.
fn still_running(store: &Store, name: &str, waiter: &Waiter, pid: i32) -> Option<(Record, Pinned)> {
    let process = Pinned::open(pid)?;
    // A supervisor changes the record before it reaps the process, and the pid is not reused before that.
    let record = store.read(name).ok().filter(|_| waiter.is_held())?;
    (record.status == Status::Running { pid }).then_some((record, process))
}

/// Kills all processes in the cgroup of a running container. Without a cgroup, kills the init process, and the kernel
/// kills the rest of its pid namespace.
fn kill(record: &Record, process: &Pinned) -> Result<(), Error> {
    if let Some(cgroup) = clean::cgroup(record)? {
        cgroup.kill()?;
    }
    kill_process(&record.name, process)
}

/// Kills a process, and waits until it has ended.
fn kill_process(name: &str, process: &Pinned) -> Result<(), Error> {
    send(name, process, libc::SIGKILL)?;
    if ends(process, PATIENCE) {
        return Ok(());
    }
    let (name, seconds) = (name.into(), PATIENCE.as_secs());
    Err(Error::Hangs { name, seconds })
}

/// Kills the init process of a container without a cgroup. The kernel then kills everything in its pid namespace.
///
/// # Errors
/// The process does not end.
pub(super) fn kill_first(record: &Record) -> Result<(), Error> {
    let (Status::Running { pid }, Some(born)) = (&record.status, record.born) else {
        return Ok(());
    };
    let Some(process) = Pinned::open(*pid) else {
        return Ok(());
    };
    // The kernel may have given the pid to another process since.
    match Process::new(Path::new("/"), process.number()).started() {
        Ok(started) if started == born => kill_process(&record.name, &process),
        _ => Ok(()),
    }
}

/// Waits until a container's supervisor has cleaned up. Continues a supervisor that is stopped.
fn wait_for_supervisor(store: &Store, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = false;
    while let Some(supervisor) = holder(store, name) {
        if supervisor.condition() == ProcessCondition::Stopped {
            if !told {
                let pid = supervisor.pid();
                say(&format!(
                    "the supervisor of {name:?}, process {pid}, is stopped: it goes on now, and cleans up"
                ));
                told = true;
            }
            supervisor.signal(libc::SIGCONT, || holder(store, name) == Some(supervisor));
        }
        if Instant::now() > deadline {
            let (name, seconds) = (name.into(), PATIENCE.as_secs());
            return Err(Error::Supervisor {
                name,
                seconds,
                supervisor,
            });
        }
        sleep(PAUSE);
    }
    Ok(())
}

fn kill_supervisor(store: &Store, name: &str) -> Result<(), Error> {
    let Some(supervisor) = holder(store, name) else {
        return Ok(());
    };
    supervisor.signal(libc::SIGKILL, || holder(store, name) == Some(supervisor));
    supervisor.wait(PATIENCE);
    match holder(store, name) {
        None => Ok(()),
        Some(supervisor) => Err(Error::Supervisor {
            name: name.into(),
            seconds: PATIENCE.as_secs(),
            supervisor,
        }),
    }
}

fn holder(store: &Store, name: &str) -> Option<LockHolder> {
    store.waiter(name).ok()?.holder()
}
