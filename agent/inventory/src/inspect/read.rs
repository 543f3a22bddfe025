//! Reads the facts of a report on one process.

use std::path::Path;

use agent_host::held::How;
use agent_host::hierarchy::{Hierarchies, Mounted};
use agent_host::membership::Membership;
use agent_host::mount::MountPoint;
use agent_host::process::Process;
use agent_host::status::{SETS, Status};
use agent_host::system::page_size;
use agent_host::{Error, held, inside};
use agent_limits::limit::Expected;
use agent_limits::limits::Limits;
use agent_model::clock::Moment;
use agent_model::container::{Container, ContainerKind};
use agent_model::hierarchy::Version;
use agent_model::limit::Intent;

use super::gaps::gaps;
use super::mounts::{self, HostMounts};
use super::usage;
use super::{
    Fact, LimitReport, Namespace, ProcessCgroup, ProcessReport, ReachableMounts, ThreadNamespace,
    reason, source,
};
use crate::namespaces::NamespaceState;

/// The source of a namespace whose file in `/proc` this process may not read.
const TASKS: &str = "the kernel's list of tasks (BPF iterator)";

/// Returns the namespaces that other threads are in and the main thread is not.
fn threads(root: &Path, process: &Process, pid: u32) -> Vec<ThreadNamespace> {
    let held = held::by_threads(root, pid).into_iter();
    let of_thread = held.filter_map(|held| {
        let How::Thread(tid) = held.how else {
            return None;
        };
        let file = format!("task/{tid}/ns/{}", held.kind);
        Some(ThreadNamespace {
            tid,
            kind: held.kind,
            inode: held.inode,
            source: source(&process.path(&file)),
        })
    });
    of_thread.collect()
}

/// Reads the report on a process. `container` is the container, unit or sandbox that it is in, `namespaces` are its
/// namespaces, and `intent` has the intended limits of its container.
///
/// # Errors
/// [`Error::Gone`] where the process has ended, even if another process has its pid by the end. Another error means
/// that the start time of the process or the host's cgroup hierarchies cannot be read. A fact that cannot be read has
/// the reason in its place.
pub fn read(
    root: &Path,
    pid: u32,
    container: Option<&Container>,
    namespaces: &[NamespaceState],
    intent: Option<&Intent>,
) -> Result<ProcessReport, Error> {
    let process = Process::new(root, pid);
    let started = process.started()?;
    let membership = Membership::of(root, pid);
    let hierarchies = Hierarchies::discover(root)?;
    let mount = namespaces.iter().find(|it| it.kind == "mnt");
    let trees = trees(root, &process, mount.is_some_and(|it| it.host));
    let link = process.link("root");
    let how = link.as_ref().and_then(|link| {
        let (own, host) = trees.as_ref()?;
        Ok(mounts::root(link, own, host))
    });
    let status = process.status();
    let of = |file: &str| source(&process.path(file));
    let mut report = ProcessReport {
        pid,
        comm: Fact::of(of("comm"), process.comm()),
        executable: Fact::of(of("exe"), process.link("exe")),
        command: Fact::of(of("cmdline"), process.arguments()),
        started: Fact::of(of("stat"), process.started_at().map(Moment::from)),
        hostname: Fact::of(of("ns/uts"), inside::host_name(root, &process)),
        interfaces: Fact::of(of("ns/net"), inside::interfaces(root, &process)),
        usage: membership.as_ref().ok().map(|membership| {
            // A sandbox has no cgroup of its own.
            let own = container.filter(|it| it.kind != ContainerKind::Sandbox);
            let own = match own {
                Some(it) => membership.above(|path| is_below(path, it), &it.cgroup),
                None => membership.clone(),
            };
            usage::read(&hierarchies, &own)
        }),
        namespaces: namespaces
            .iter()
            .map(|it| namespace(it, &process, container))
            .collect(),
        threads: threads(root, &process, pid),
        container: container.cloned(),
        root: Fact::of(format!("{}, {}", of("root"), of("mountinfo")), how),
        mounts: Fact::of(
            of("mountinfo"),
            trees
                .as_ref()
                .map(|(own, host)| ReachableMounts::new(own.clone(), host)),
        ),
        uid_map: Fact::of(of("uid_map"), process.ids("uid_map")),
        gid_map: Fact::of(of("gid_map"), process.ids("gid_map")),
        capabilities: SETS
            .iter()
            .enumerate()
            .map(|(at, (set, row))| {
                let held = |it: &Status| it.capabilities[at].clone();
                (*set, allowed(&process, row, &status, held))
            })
            .collect(),
        no_new_privs: allowed(&process, "NoNewPrivs", &status, |it| it.no_new_privs),
        seccomp: allowed(&process, "Seccomp", &status, |it| it.seccomp),
        seccomp_filters: allowed(&process, "Seccomp_filters", &status, |it| {
            it.seccomp_filters
        }),
        limits: match &membership {
            Ok(membership) => {
                let limits = Limits {
                    hierarchies: &hierarchies,
                    membership,
                };
                self::limits(&limits, intent)
            }
            Err(_) => Vec::new(),
        },
        cgroups: Fact::of(
            of("cgroup"),
            membership.as_ref().map(|it| cgroups(it, &hierarchies)),
        ),
        not_judged: Vec::new(),
        not_isolated: Vec::new(),
    };
    report.not_isolated = gaps(&report);
    if process.started()? != started {
        let path = process.path("");
        return Err(Error::Gone { path });
    }
    Ok(report)
}

/// Reads the mounts of a process, and those of the host unless the process is in the host's mount namespace.
fn trees(
    root: &Path,
    process: &Process,
    in_host: bool,
) -> Result<(Vec<MountPoint>, HostMounts), Error> {
    // Any process may read this file of pid 1, unlike the links in its directory.
    let host = || Process::new(root, 1).mounts();
    Ok((
        process.mounts()?,
        if in_host { None } else { Some(host()?) },
    ))
}

/// Returns the container that a process is in; `None` where it is in none, or has ended.
pub fn container_of(root: &Path, pid: u32, containers: &[Container]) -> Option<Container> {
    let membership = Membership::of(root, pid).ok()?;
    container(&membership, containers).cloned()
}

/// Returns the outermost container that has one of these cgroups.
fn container<'a>(membership: &Membership, containers: &'a [Container]) -> Option<&'a Container> {
    let has = |container: &&Container| {
        // A container that does not run has no cgroup.
        !container.cgroup.is_empty()
            && membership
                .paths()
                .any(|(_, path)| is_below(path, container))
    };
    let in_them = containers.iter().filter(has);
    in_them.min_by_key(|container| container.cgroup.len())
}

/// Tells whether a path is the container's cgroup or below it.
fn is_below(path: &str, container: &Container) -> bool {
    let rest = path.strip_prefix(&*container.cgroup);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn namespace(state: &NamespaceState, process: &Process, own: Option<&Container>) -> Namespace {
    let others = state.containers.iter().filter(|other| {
        own.is_none_or(|own| (&own.id, &own.runtime) != (&other.id, &other.runtime))
    });
    let link = process.namespace(&state.kind);
    let is_open = link.is_ok_and(|inode| inode == state.inode);
    Namespace {
        kind: state.kind.clone(),
        inode: state.inode,
        name: state.name.clone(),
        host: state.host,
        processes: state.processes,
        shared_with: others.cloned().collect(),
        source: if is_open {
            source(&process.path("ns").join(&state.kind))
        } else {
            TASKS.to_owned()
        },
    }
}

/// Makes a fact of one row of `/proc/PID/status`.
fn allowed<T>(
    process: &Process,
    row: &str,
    status: &Result<Status, Error>,
    of: impl Fn(&Status) -> T,
) -> Fact<T> {
    let place = format!("{} {row}", source(&process.path("status")));
    Fact::of(place, status.as_ref().map(of))
}

fn cgroups(membership: &Membership, hierarchies: &Hierarchies) -> Vec<ProcessCgroup> {
    let paths = membership.paths();
    let cgroup = |(id, path): (u32, &str)| {
        Some(ProcessCgroup {
            hierarchy: hierarchy(hierarchies.by_id(id)?),
            path: path.to_owned(),
        })
    };
    paths.filter_map(cgroup).collect()
}

fn hierarchy(mounted: &Mounted) -> String {
    match (mounted.version, &mounted.name) {
        (Version::V2, _) => "v2".to_owned(),
        (Version::V1, Some(name)) => format!("name={name}"),
        (Version::V1, None) => mounted.controllers.join(","),
    }
}

/// Reads the limits that the report lists ([`LimitReport::says_something`]), and those whose files cannot be read.
fn limits(limits: &Limits<'_>, intent: Option<&Intent>) -> Vec<LimitReport> {
    let all = limits.all().into_iter();
    let told = all.filter_map(|(kind, device)| match limits.chain(kind, device) {
        Ok(chain) => {
            let intended = intent
                .and_then(|it| Expected::intended(it, kind, device, chain.version, page_size()));
            Some(LimitReport::of(&chain, intended.as_ref())).filter(LimitReport::says_something)
        }
        Err(error) => Some(LimitReport::unreadable(kind, device, reason(&error))),
    });
    told.collect()
}
