//! Lists the processes whose namespaces an ordinary user may see, from `/proc`: those of the user's own, as lsns(8) does.
//! The tracer's list of all tasks takes root.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use agent_ebpf::{Hierarchy, Namespace, NamespaceInodes, Task, TaskCgroups};
use agent_model::hierarchy::Version;

use super::file::{File, number, words};
use super::hierarchy::Hierarchies;
use super::membership::Membership;
use super::namespace::parse;
use super::process::{Process, numbers};

/// The inodes of the namespaces that the kernel begins with (include/linux/proc_ns.h). Those of the mount and network
/// namespaces are not the same on all kernels.
const INITIAL: [(Namespace, u32); 8] = [
    (Namespace::Ipc, 0xEFFF_FFFF),
    (Namespace::Uts, 0xEFFF_FFFE),
    (Namespace::User, 0xEFFF_FFFD),
    (Namespace::Pid, PID),
    (Namespace::PidForChildren, PID),
    (Namespace::Cgroup, 0xEFFF_FFFB),
    (Namespace::Time, TIME),
    (Namespace::TimeForChildren, TIME),
];
const PID: u32 = 0xEFFF_FFFC;
const TIME: u32 = 0xEFFF_FFFA;

/// Returns the main thread of each process whose namespaces this process may see.
pub fn visible(root: &Path, hierarchies: &Hierarchies) -> Vec<Task> {
    let numbers = numbers(root).into_iter();
    numbers
        .filter_map(|pid| task(root, pid, hierarchies))
        .collect()
}

fn task(root: &Path, pid: u32, hierarchies: &Hierarchies) -> Option<Task> {
    let process = Process::new(root, pid);
    let started = process.started().ok()?;
    let mut namespaces = NamespaceInodes::default();
    for namespace in Namespace::ALL {
        // A kernel may not have all of them.
        let link = fs::read_link(process.path(&format!("ns/{}", namespace.name())));
        let parsed = link
            .ok()
            .and_then(|link| parse(link.as_os_str().as_bytes()));
        namespaces[*namespace as usize] = parsed.map_or(0, |(_, inode)| inode);
    }
    let own = namespaces[Namespace::Pid as usize];
    if own == 0 || namespaces[Namespace::Mnt as usize] == 0 {
        return None;
    }
    let status = File::read(process.path("status")).ok()?;
    let row = |key: &str| status.word_of(key).and_then(number);
    let mut lines = status.lines();
    let pids = lines.find_map(|line| line.strip_prefix(b"NSpid:"))?;
    let comm = process.comm().ok()?;
    let mut task = Task {
        start_time: started.saturating_mul(NANOSECONDS / ticks()),
        cgroups: cgroups(root, pid, hierarchies),
        pid,
        tid: pid,
        ppid: row("PPid:")?,
        ns_pid: words(pids).last().and_then(number)?,
        uid: row("Uid:")?,
        outer_pid_namespace: if own == PID { 0 } else { own },
        namespaces,
        ..Task::EMPTY
    };
    let room = task.comm.len() - 1;
    for (to, from) in task.comm.iter_mut().zip(comm.bytes().take(room)) {
        *to = from;
    }
    // Another process may have got the pid meanwhile.
    (process.started().ok()? == started).then_some(task)
}

const NANOSECONDS: u64 = 1_000_000_000;

fn ticks() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

/// Returns the cgroups of a process in the hierarchies in which the tracer captures them.
fn cgroups(root: &Path, pid: u32, hierarchies: &Hierarchies) -> TaskCgroups {
    let mut cgroups = TaskCgroups::default();
    let Ok(membership) = Membership::of(root, pid) else {
        return cgroups;
    };
    for hierarchy in Hierarchy::ALL {
        let mounted = match hierarchy {
            Hierarchy::V2 => hierarchies.by_id(0),
            of => hierarchies.of_controller(of.name()),
        };
        let is_its = |version| (version == Version::V2) == (*hierarchy == Hierarchy::V2);
        let mounted = mounted.filter(|mounted| is_its(mounted.version));
        let path = mounted.and_then(|mounted| Some((mounted, membership.path(mounted)?)));
        let Some((mounted, path)) = path else {
            continue;
        };
        let directory = hierarchies.directory(mounted, path);
        let found = directory.and_then(|directory| fs::metadata(directory.path).ok());
        let at = *hierarchy as usize;
        let levels = path.split('/').filter(|part| !part.is_empty()).count();
        cgroups.ids[at] = found.map_or(0, |found| found.ino());
        cgroups.hierarchies[at] = mounted.id;
        cgroups.levels[at] = u32::try_from(levels).unwrap_or(u32::MAX);
    }
    cgroups
}

/// Returns the host's namespaces. The inode of the mount or network namespace is 0 where none of `tasks` is in the host's.
/// Returns `None` where this process is in another pid namespace than the host's, or `/proc` hides process 1.
pub fn host_of(root: &Path, tasks: &[Task]) -> Option<NamespaceInodes> {
    let own = Process::new(root, std::process::id());
    if own.namespace("pid").ok()? != PID {
        return None;
    }
    let mut host = NamespaceInodes::default();
    for (namespace, inode) in INITIAL {
        host[namespace as usize] = inode;
    }
    let first = Process::new(root, 1);
    let (mount, network) = (first_mount(&first)?, network(&first)?);
    let find = |namespace: Namespace, is_hosts: &dyn Fn(&Process) -> bool| {
        let at = namespace as usize;
        // One process of each namespace is enough.
        let each: BTreeMap<u32, u32> = tasks.iter().map(|it| (it.namespaces[at], it.pid)).collect();
        let mut each = each.into_iter();
        let found = each.find(|(_, pid)| is_hosts(&Process::new(root, *pid)));
        found.map_or(0, |(inode, _)| inode)
    };
    host[Namespace::Mnt as usize] = find(Namespace::Mnt, &|it| first_mount(it) == Some(mount));
    host[Namespace::Net as usize] = find(Namespace::Net, &|it| self::network(it) == Some(network));
    Some(host)
}

/// Returns the id of a process's first mount. Mounts of different namespaces have different ids, and any process may read
/// this file.
fn first_mount(process: &Process) -> Option<u64> {
    let mounts = File::read(process.path("mountinfo")).ok()?;
    words(mounts.lines().next()?).next().and_then(number)
}

/// Returns the inode of a file that `/proc` has for each network namespace. Any process may see it.
fn network(process: &Process) -> Option<u64> {
    let found = fs::metadata(process.path("net/dev")).ok()?;
    Some(found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_visible() {
        let root = Path::new("/");
        let hierarchies = Hierarchies::discover(root).unwrap();
        let tasks = visible(root, &hierarchies);
        let own = tasks.iter().find(|it| it.pid == std::process::id());
        let own = own.expect("this process");
        let status = fs::metadata("/proc/self").unwrap();
        assert_eq!(own.uid, status.uid());
        assert_eq!(own.ppid, std::os::unix::process::parent_id());
        for kind in ["mnt", "net", "pid", "user"] {
            let inode = Process::new(root, own.pid).namespace(kind).unwrap();
            assert!(own.namespaces.contains(&inode), "{kind}");
        }
        let host = host_of(root, &tasks).unwrap();
        assert_eq!(host[Namespace::Pid as usize], PID);
        assert_eq!(
            host[Namespace::Net as usize] == own.namespaces[Namespace::Net as usize],
            network(&Process::new(root, 1)) == network(&Process::new(root, own.pid))
        );
    }
}
