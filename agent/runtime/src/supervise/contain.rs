//! Makes a container, supervises it until it ends, and removes it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agent_host::interrupts::Interrupts as _;
use agent_host::membership::Membership;
use agent_host::{faults, process};
use agent_network::{self as network, Network};
use agent_rootfs::RootFs;
use agent_sys::fork::send_signal;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, LinuxResources, Process, Spec};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, getpid, waitid};

use super::clean::Rest;
use super::observer::Observer;
use super::relay::Relay;
use super::signals::Signals;
use super::streams::{self, WantedStreams};
use super::{Error, clean, log};
use crate::cgroup::{self, Begun, Cgroup, Ground};
use crate::launch::{self, Cgroups, Entrances, Started, Stdio};
use crate::order::Order;
use crate::spec;
use crate::state::{NameClaim, Record, Status, Store, logs};

/// Makes a container, supervises it until it ends, and removes it. While the init process prepares, removes the `rest`
/// that killed supervisors left.
pub(super) fn contain(
    mut order: Order,
    store: &Store,
    ground: &Ground,
    rest: Option<Rest>,
    observer: &mut Observer,
) -> Result<u8, Error> {
    let wanted = WantedStreams {
        terminal: is_terminal(&order.spec),
        interactive: order.interactive,
    };
    if !order.detach {
        wanted.check()?;
    }
    // A directory may be on a file system that hangs. Signals are not caught yet, so they end this process at once.
    // Nothing has been made that would have to be removed.
    let tree = match order.root.is_unpacked() {
        true => None,
        false => Some(agent_rootfs::prepare(
            &order.root,
            &order.spec,
            &|| Ok(()),
            None,
        )?),
    };
    let claim = store.claim(&order.name)?;
    let mut signals = Signals::catch().map_err(Error::Streams)?;
    faults::point("claimed");
    let mut record = record(&order, store, ground);
    claim.write(&record)?;
    faults::point("recorded");
    let mut limited = false;
    let beside = || rest.iter().for_each(|rest| rest.sweep(store));
    let makes = Makes {
        claim: &claim,
        ground,
        beside: &beside,
        signals: &mut signals,
    };
    let lived = live(
        &mut order,
        tree,
        wanted,
        makes,
        &mut record,
        &mut limited,
        observer,
    );
    let Lived {
        code,
        process,
        lost_output,
    } = match lived {
        Ok(ended) => ended,
        Err(error) => {
            // Before `limited`, the cgroup may be one that was there before and belongs to others, with all processes
            // in it. What cannot be removed now is found later by the record.
            let removed = if limited {
                clean::remains(&record).is_ok()
            } else {
                logs::remove(&record).is_ok()
            };
            if removed {
                ground.leave();
                claim.remove()?;
            }
            return Err(error);
        }
    };
    ground.leave();
    claim.leave_word(code)?;
    if record.stays() {
        record.status = Status::Exited { code };
        claim.write(&record)?;
    } else {
        logs::remove(&record)?;
        claim.remove()?;
    }
    // The zombie keeps the pid until no record names it. Another process may get the pid afterwards.
    reap(process.as_fd());
    // The command reports success, and part of its output has reached nobody.
    Ok(if lost_output && code == 0 {
        FAILED
    } else {
        code
    })
}

/// The arguments of [`live`] besides the order.
struct Makes<'a> {
    claim: &'a NameClaim,
    ground: &'a Ground,
    /// Work that may wait until the init process exists.
    beside: &'a dyn Fn(),
    signals: &'a mut Signals,
}

/// How a container ended. The caller reaps its init process.
struct Lived {
    code: u8,
    process: OwnedFd,
    lost_output: bool,
}

/// The exit status of a failure of this command, as opposed to the container's.
pub(super) const FAILED: u8 = 125;

/// Runs a container: from its root file system to the end of its last process.
fn live(
    order: &mut Order,
    tree: Option<RootFs>,
    wanted: WantedStreams,
    makes: Makes<'_>,
    record: &mut Record,
    limited: &mut bool,
    observer: &mut Observer,
) -> Result<Lived, Error> {
    let Makes {
        claim,
        ground,
        beside: others,
        signals,
    } = makes;
    let resources = resources(&order.spec);
    let path = cgroup_path(order);
    let mut early = None;
    if order.root.is_unpacked() {
        // An image may be unpacked into memory. The container's cgroup exists before, so that the memory is charged to
        // it.
        claim.write_spec(&order.spec)?;
        let mut begun = begin(order, ground, &path, &resources)?;
        begun.make_all()?;
        early = Some(begun);
    }
    let charge = || {
        let charged = early.as_ref().map_or(Ok(()), Begun::charge_this_process);
        charged.map_err(io::Error::other)
    };
    let tree = match tree {
        Some(tree) => tree,
        None => agent_rootfs::prepare(&order.root, &order.spec, &charge, Some(&mut *signals))?,
    };
    spec::complete(order, tree.image.as_ref(), tree.mount.as_fd())?;
    remember_size(&mut order.spec, wanted);
    if record.image != tree.name || record.stop_signal != order.stop_signal {
        record.image.clone_from(&tree.name);
        record.stop_signal = order.stop_signal;
        claim.write(record)?;
    }
    // The spec is written before the cgroup exists, because a process that sees the cgroup reads the intended limits
    // from it.
    claim.write_spec(&order.spec)?;
    let filters = filters(&order.spec)?;
    faults::point("prepared");
    let mut begun = match early {
        Some(begun) => begun,
        None => begin(order, ground, &path, &resources)?,
    };
    let is_nowhere = begun.is_nowhere();
    faults::point("begun");
    let (stdio, mut relay) = streams(order, wanted, claim, record)?;
    if let Some(leash) = observer.leash().map_err(Error::Streams)? {
        relay.leash(leash);
    }
    begun.check()?;
    let cgroups = Cgroups {
        hierarchies: &ground.hierarchies,
        born: begun.v2_fd(),
        own: ground.cgroups(&path),
    };
    // On an error, this value is dropped before `begun`. The init process is dead then, and the cgroup can be removed.
    let started = launch::launch(
        order,
        tree.mount.as_fd(),
        &cgroups,
        stdio,
        &filters,
        signals,
    )?;
    // The image's layers on disk stay until the container has ended.
    let _disk = tree.disk;
    drop(tree.mount);
    let ((cgroup, notes), started) = beside(started, begun.complete())?;
    others();
    *limited = true;
    for note in notes {
        observer.note(&note.0);
    }
    faults::point("limited");
    cgroup.check()?;
    let pid = started.pid.as_raw_nonzero().get().unsigned_abs();
    let born = || Membership::of(Path::new("/"), pid);
    let held = observer.limited(&cgroup, || Ok(ground.joined(&born()?, &path)));
    let ((), started) = beside(started, held)?;
    let placed = place(order, &cgroup, &started);
    let (entrances, started) = beside(started, placed)?;
    // After a signal, the caller has stopped waiting. No container is started behind its back.
    if order.detach
        && let Some(signal) = signals.ending().map_err(Error::Wait)?
    {
        let what = "the container to be made".into();
        return Err(launch::Error::Interrupted { signal, what }.into());
    }
    let running = started.go(&entrances, signals);
    let running = running.map_err(|error| held_up(error.into(), &cgroup))?;
    drop(entrances);
    faults::point("running");
    record.status = Status::Running {
        pid: running.pid.as_raw_nonzero().get(),
    };
    if is_nowhere {
        let pid = running.pid.as_raw_nonzero().get().unsigned_abs();
        record.born = process::Process::new(Path::new("/"), pid).started().ok();
    }
    claim.write(record)?;
    observer.started(running.pid.as_raw_nonzero().get());

    let mut raw = None;
    if let Some(terminal) = running.terminal {
        raw =
            streams::connect(terminal, wanted, order.detach, &mut relay).map_err(Error::Streams)?;
    }
    let process = running.pidfd;
    // The third signal that asks for the end kills the container.
    let mut killed = Ok(());
    let mut looks = 0..;
    let kill = &mut || {
        // Without a cgroup, this signal ends the container. With one, it keeps the init process from making new
        // processes.
        let _ = send_signal(process.as_fd(), libc::SIGKILL);
        killed = cgroup.kill_once(looks.next().unwrap_or(u32::MAX));
    };
    if let Err(error) = relay.until_end(process.as_fd(), signals, kill) {
        killed?;
        return Err(Error::Wait(error));
    }
    let code = end_of(process.as_fd())?;
    faults::point("ended");
    // Usually no process is left in the cgroup, and the kernel lets it be removed at once. A verifier reads its files
    // first.
    let is_gone = !observer.is_verifier() && cgroup.remove_empty();
    if !is_gone {
        cgroup.kill()?;
    }
    let drained = relay.drain(process.as_fd(), signals);
    drained.map_err(Error::Wait)?;
    drop(raw);
    observer.ended(code);
    if matches!(order.network, Network::Veth { .. }) {
        network::disconnect(&order.name, &Store::lock_bridges)?;
    }
    if !is_gone {
        cgroup.remove()?;
    }
    faults::point("removed");
    Ok(Lived {
        code,
        process,
        lost_output: relay.lost_output(),
    })
}

fn record(order: &Order, store: &Store, ground: &Ground) -> Record {
    let log = order.detach.then(|| store.new_log(&order.name));
    let cgroups = ground.cgroups(&cgroup_path(order));
    let first = cgroups.values().next().cloned();
    let labels = order.spec.annotations().clone().into_iter();
    Record {
        name: order.name.clone(),
        image: order.root.name(),
        // The first key is that of v2, the empty string.
        cgroup: first.unwrap_or_default().into(),
        cgroups: Some(cgroups),
        leaf: ground.leaf().map(PathBuf::from),
        born: None,
        bounds: Some(ground.bounds().cloned().unwrap_or_default()),
        supervisor: getpid().as_raw_nonzero().get(),
        status: Status::Creating,
        created: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        detached: order.detach,
        remove: order.remove || !order.detach,
        change_root: order.change_root,
        network: order.network.clone(),
        stop_signal: order.stop_signal,
        swap_asked: !order.swap_implied,
        labels: labels.flatten().collect(),
        log: log.flatten(),
    }
}

/// Returns the path of the container's cgroup below the base in each hierarchy.
pub(super) fn cgroup_path(order: &Order) -> String {
    let linux = order.spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().clone());
    path.map_or_else(
        || format!("/agent/{}", order.name),
        |path| path.to_string_lossy().into_owned(),
    )
}

pub(super) fn resources(spec: &Spec) -> LinuxResources {
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().clone());
    resources.unwrap_or_default()
}

/// Begins to make the cgroup: makes it in v2, where that is mounted.
fn begin<'a>(
    order: &Order,
    ground: &Ground,
    path: &'a str,
    resources: &'a LinuxResources,
) -> Result<Begun<'a>, Error> {
    let begun = Begun::new(ground, path, resources, order.swap_implied)?;
    // Without a cgroup, and with a shared pid namespace, the other processes would outlive a killed supervisor. No
    // command could find them.
    if begun.is_nowhere() && !has_own_processes(&order.spec) {
        let name = "a shared --pid".to_owned();
        let why = ground.why().to_owned();
        let subgroup = "";
        return Err(cgroup::Error::NotDelegated {
            name,
            why,
            subgroup,
        }
        .into());
    }
    Ok(begun)
}

/// Tells whether the container has a new pid namespace, in which all processes end with the init process.
fn has_own_processes(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref());
    let own = |it: &LinuxNamespace| it.typ() == LinuxNamespaceType::Pid && it.path().is_none();
    namespaces.is_some_and(|all| all.iter().any(own))
}

/// Compiles the system call filters of a spec.
pub(super) fn filters(spec: &Spec) -> Result<Vec<agent_seccomp::FilterProgram>, Error> {
    let linux = spec.linux().as_ref();
    let profile = linux.and_then(|linux| linux.seccomp().as_ref());
    let filter = profile.map(agent_seccomp::compile).transpose()?;
    Ok(filter.into_iter().collect())
}

pub(super) fn is_terminal(spec: &Spec) -> bool {
    let process = spec.process().as_ref();
    process.and_then(Process::terminal) == Some(true)
}

/// Writes the size of the caller's terminal into the spec, for the container's terminal.
fn remember_size(spec: &mut Spec, wanted: WantedStreams) {
    if let Some(process) = spec.process_mut().as_mut().filter(|_| wanted.terminal) {
        streams::set_size(process);
    }
}

fn streams(
    order: &Order,
    wanted: WantedStreams,
    claim: &NameClaim,
    record: &Record,
) -> Result<(Stdio, Relay), Error> {
    let made = if order.detach {
        let (path, directory) = match &record.log {
            Some(path) => (path.as_path(), log::place::make(path)),
            None => (claim.directory(), log::place::open(claim.directory())),
        };
        let log = directory.and_then(|directory| log::Writer::create(directory, order.log));
        let log = log.map_err(|source| Error::Log {
            path: path.to_owned(),
            source,
        });
        streams::logged(wanted, log?)
    } else {
        streams::foreground(wanted)
    };
    made.map_err(Error::Streams)
}

/// Returns the result of work that this process did beside the new process. Where that work failed and the new process
/// failed too, the error of the new process comes first.
fn beside<T>(started: Started, came: Result<T, impl Into<Error>>) -> Result<(T, Started), Error> {
    match came {
        Ok(came) => Ok((came, started)),
        Err(error) => Err(started.failure().map_or_else(|| error.into(), Error::from)),
    }
}

/// Connects the network of the init process while that mounts. Returns the descriptors by which it joins its v1
/// cgroups.
fn place<'a>(order: &Order, cgroup: &'a Cgroup, started: &Started) -> Result<Entrances<'a>, Error> {
    network::connect(
        &order.network,
        &order.name,
        started.pid,
        started.pidfd.as_fd(),
        &Store::lock_bridges,
    )?;
    faults::point("connected");
    Ok(cgroup.entrances()?)
}

/// Replaces the error of a launch that took too long, where the cgroup keeps its processes from running. The new error
/// names that reason.
pub(super) fn held_up(error: Error, cgroup: &Cgroup) -> Error {
    match (&error, cgroup.check()) {
        (Error::Launch(launch::Error::Late { .. }), Err(reason)) => reason.into(),
        _ => error,
    }
}

/// Returns the exit status of a process that has ended, and leaves it a zombie.
pub(super) fn end_of(process: BorrowedFd<'_>) -> Result<u8, Error> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::PidFd(process), options);
    let status = status.map_err(|errno| Error::Wait(errno.into()))?;
    Ok(status.as_ref().map_or(0, code))
}

/// Returns the exit status as a shell shows it.
fn code(status: &WaitIdStatus) -> u8 {
    let signal = status.terminating_signal();
    let code = status.exit_status().or(signal.map(|signal| 128 + signal));
    // The kernel keeps the low eight bits of the argument of exit(2).
    code.map_or(0, |code| (code & 0xff) as u8)
}

/// Reaps a process that has ended.
pub(super) fn reap(process: BorrowedFd<'_>) {
    // Where this fails, the process is reaped by its next parent.
    let _ = waitid(WaitId::PidFd(process), WaitIdOptions::EXITED);
}
