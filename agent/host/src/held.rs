//! What holds namespaces besides the main threads of processes: other threads, open descriptors, the namespaces of
//! future children, and mounts in other mount namespaces. A process is left out if it ends meanwhile, or if this
//! process may not inspect it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::namespace::{mounted_at, parse};

/// The types of namespaces, as `/proc/PID/ns` names them.
const TYPES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// The files of `/proc/PID/ns` with the namespaces that future children will be in.
const OF_CHILDREN: [&str; 2] = ["pid_for_children", "time_for_children"];

/// A namespace, and the process that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The type, such as `net`.
    pub kind: String,
    pub inode: u32,
    pub pid: u32,
    pub how: How,
}

/// How a process holds a namespace that its main thread is not in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The thread with this number is in the namespace.
    Thread(u32),
    /// The descriptor with this number refers to the namespace.
    Descriptor(u32),
    /// Future children will be in the namespace, as this file of `/proc/PID/ns` says.
    Children(&'static str),
    /// The namespace is mounted at this path in the mount namespace of the process.
    Mount(String),
}

/// Returns every namespace that a process holds, and once for each mount namespace the namespaces mounted in it.
pub fn all(root: &Path) -> Vec<Held> {
    let proc = root.join("proc");
    let mut held = Vec::new();
    // `namespace::mounted` reports the mounts of this process's mount namespace.
    let own = link(&proc.join("self/ns/mnt")).map(|(_, inode)| inode);
    let mut mounts: HashSet<u32> = own.into_iter().collect();
    for pid in numbers(&proc) {
        let process = proc.join(pid.to_string());
        let main = namespaces(&process);
        held.extend(of_process(&process, pid, &main));
        if let Some(mnt) = main.get("mnt")
            && mounts.insert(*mnt)
        {
            let mounted = mounted_at(&process.join("mountinfo")).unwrap_or_default();
            held.extend(mounted.into_iter().map(|it| Held {
                kind: it.kind,
                inode: it.inode,
                pid,
                how: How::Mount(it.point),
            }));
        }
    }
    held
}

/// Returns what one process holds, without the mounts in its mount namespace.
pub fn by(root: &Path, pid: u32) -> Vec<Held> {
    let process = root.join("proc").join(pid.to_string());
    of_process(&process, pid, &namespaces(&process))
}

fn of_process(process: &Path, pid: u32, main: &HashMap<String, u32>) -> Vec<Held> {
    let children = OF_CHILDREN.iter().filter_map(|name| {
        let later = link(&process.join("ns").join(name))?;
        let differs = main.get(&later.0) != Some(&later.1);
        differs.then_some((How::Children(name), later))
    });
    let threads = of_threads(process, pid, main).into_iter();
    let threads = threads.map(|(thread, namespace)| (How::Thread(thread), namespace));
    let descriptors = process.join("fd");
    let open = numbers(&descriptors).into_iter().filter_map(|descriptor| {
        let open = link(&descriptors.join(descriptor.to_string()))?;
        Some((How::Descriptor(descriptor), open))
    });
    let held = children.chain(threads).chain(open);
    let held = held.map(|(how, (kind, inode))| Held {
        kind,
        inode,
        pid,
        how,
    });
    held.collect()
}

/// Returns the namespaces of a process's threads that differ from those of its main thread.
pub fn by_threads(root: &Path, pid: u32) -> Vec<Held> {
    let process = root.join("proc").join(pid.to_string());
    let threads = of_threads(&process, pid, &namespaces(&process));
    let held = threads.into_iter().map(|(thread, (kind, inode))| Held {
        kind,
        inode,
        pid,
        how: How::Thread(thread),
    });
    held.collect()
}

fn of_threads(process: &Path, pid: u32, main: &HashMap<String, u32>) -> Vec<(u32, (String, u32))> {
    let directory = process.join("task");
    let mut found = Vec::new();
    for thread in numbers(&directory).into_iter().filter(|it| *it != pid) {
        let own = namespaces(&directory.join(thread.to_string()));
        let other = own.into_iter().filter(|(kind, inode)| {
            let main = main.get(kind);
            main.is_some_and(|main| main != inode)
        });
        found.extend(other.map(|namespace| (thread, namespace)));
    }
    found
}

/// Returns the inodes of a task's namespaces by type.
fn namespaces(task: &Path) -> HashMap<String, u32> {
    let of = TYPES.iter().map(|name| task.join("ns").join(name));
    of.filter_map(|path| link(&path)).collect()
}

/// Returns the namespace that a link of `/proc` refers to.
fn link(path: &PathBuf) -> Option<(String, u32)> {
    let target = fs::read_link(path).ok()?;
    let (kind, inode) = parse(target.as_os_str().as_encoded_bytes())?;
    // The links of pipes and sockets have the same form.
    TYPES.contains(&&*kind).then_some((kind, inode))
}

/// Returns the names in a directory that are numbers.
fn numbers(directory: &Path) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let number = |name: &OsStr| name.to_str()?.parse().ok();
    entries.filter_map(|it| number(&it.file_name())).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::fixture::tree;

    #[test]
    fn what_a_process_holds() {
        let nsfs = "98 95 0:4 net:[77] /run/lab rw - nsfs nsfs rw\n";
        let root = tree(&[("proc/5/mountinfo", nsfs)]);
        let proc = root.path().join("proc");
        let make = |path: &str, target: &str| {
            let path = proc.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        };
        for (path, target) in [
            ("5/ns/net", "net:[1]"),
            ("5/ns/mnt", "mnt:[2]"),
            ("5/ns/time", "time:[3]"),
            ("5/ns/time_for_children", "time:[33]"),
            ("5/task/5/ns/net", "net:[1]"),
            ("5/task/6/ns/net", "net:[11]"),
            ("5/task/7/ns/net", "net:[1]"),
            ("5/fd/0", "socket:[9]"),
            ("5/fd/3", "net:[55]"),
        ] {
            make(path, target);
        }
        let held = all(root.path());
        let held: Vec<_> = held
            .iter()
            .map(|it| (&*it.kind, it.inode, &it.how))
            .collect();
        assert_eq!(
            held,
            [
                ("time", 33, &How::Children("time_for_children")),
                ("net", 11, &How::Thread(6)),
                ("net", 55, &How::Descriptor(3)),
                ("net", 77, &How::Mount("/run/lab".into())),
            ]
        );
        assert_eq!(by_threads(root.path(), 5).len(), 1);
        // `by` leaves out the mounts.
        assert_eq!(by(root.path(), 5), all(root.path())[..3]);
        assert_eq!(by(root.path(), 6), []);
    }
}
