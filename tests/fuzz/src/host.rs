//! Every reader of `agent-host` that gets its bytes from a file, on two hosts of a few files: one has cgroup v2, the other v1.

use std::fs;
use std::path::Path;

use agent_ebpf::CgroupKey;
use agent_host::hierarchy::Hierarchies;
use agent_host::hits::{self, Hits};
use agent_host::kept::{Directory, Kept};
use agent_host::membership::Membership;
use agent_host::process::Process;
use agent_host::subordinate::{self, Subordinates};
use agent_host::system::{self, Capacity, System};
use agent_host::{changes, devices, namespace, network, population};
use agent_limits::limits::Limits;
use tempfile::TempDir;

use crate::directory::directory;

const V2: &str = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
    31 27 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
const V2_PATHS: &str = "0::/web\n";

const V1: &str = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
    31 27 0:28 / /sys/fs/cgroup rw,nosuid - cgroup cgroup rw,cpu,cpuacct,memory,pids,blkio,cpuset,freezer\n";
const V1_PATHS: &str = "4:cpu,cpuacct,memory,pids,blkio,cpuset,freezer:/web\n";

/// Where the cgroup is, in both.
const CGROUP: &str = "sys/fs/cgroup/web";

/// Reads a file below a root directory.
type Reader = fn(&Path);

/// The files that an input is put into, with what reads them.
#[rustfmt::skip]
const FILES: [(&str, Reader); 25] = [
    ("proc/1/stat",                 of_process),
    ("proc/1/status",               of_process),
    ("proc/1/cmdline",              of_process),
    ("proc/1/comm",                 of_process),
    ("proc/1/uid_map",              of_process),
    ("proc/1/mountinfo",            of_process),
    ("proc/1/cgroup",               of_process),
    ("proc/1/schedstat",            of_process),
    ("proc/1/io",                   of_process),
    ("proc/1/net/dev",              of_network),
    ("proc/self/mountinfo",         of_hierarchies),
    ("proc/self/cgroup",            of_hierarchies),
    ("sys/fs/cgroup/cgroup.controllers", of_hierarchies),
    ("proc/self/status",            of_system),
    ("proc/meminfo",                of_system),
    ("proc/sys/kernel/osrelease",   of_system),
    ("proc/sys/fs/inotify/max_user_watches", of_system),
    ("sys/kernel/security/lockdown", of_system),
    ("sys/devices/system/cpu/online", of_system),
    ("sys/dev/block/8:0/uevent",    of_system),
    ("proc/vmstat",                 of_cgroup),
    ("proc/stat",                   of_cgroup),
    ("etc/passwd",                  of_accounts),
    ("etc/subuid",                  of_accounts),
    ("etc/subgid",                  of_accounts),
];

/// The files of a cgroup, of both versions.
const OF_CGROUP: [&str; 62] = [
    "cgroup.controllers",
    "cgroup.events",
    "cgroup.freeze",
    "cgroup.procs",
    "cgroup.stat",
    "cgroup.subtree_control",
    "cgroup.threads",
    "cgroup.type",
    "memory.current",
    "memory.events",
    "memory.events.local",
    "memory.high",
    "memory.low",
    "memory.max",
    "memory.min",
    "memory.oom.group",
    "memory.peak",
    "memory.pressure",
    "memory.stat",
    "memory.swap.current",
    "memory.swap.events",
    "memory.swap.max",
    "memory.swap.peak",
    "memory.numa_stat",
    "memory.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.usage_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.failcnt",
    "memory.memsw.limit_in_bytes",
    "memory.memsw.usage_in_bytes",
    "memory.memsw.failcnt",
    "memory.memsw.max_usage_in_bytes",
    "memory.oom_control",
    "memory.use_hierarchy",
    "memory.kmem.usage_in_bytes",
    "cpu.max",
    "cpu.max.burst",
    "cpu.weight",
    "cpu.weight.nice",
    "cpu.stat",
    "cpu.pressure",
    "cpu.shares",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.cfs_burst_us",
    "cpuacct.usage",
    "cpuacct.usage_percpu",
    "cpuacct.stat",
    "cpuset.cpus",
    "cpuset.cpus.effective",
    "cpuset.mems",
    "cpuset.mems.effective",
    "pids.max",
    "pids.current",
    "pids.events",
    "pids.peak",
    "io.max",
    "io.stat",
    "io.weight",
    "io.pressure",
    "freezer.state",
];

/// A file's content, behind two bytes that say which host has it and which file it is.
pub fn host(bytes: &[u8]) {
    thread_local!(static HOSTS: [TempDir; 2] = [made(V1, V1_PATHS), made(V2, V2_PATHS)]);
    let [host, file, content @ ..] = bytes else {
        return;
    };
    HOSTS.with(|hosts| {
        let root = hosts[usize::from(host % 2)].path();
        let number = usize::from(*file) % (FILES.len() + OF_CGROUP.len());
        match FILES.get(number) {
            Some((path, read)) => read_with(&root.join(path), content, || read(root)),
            None => {
                let path = root.join(CGROUP).join(OF_CGROUP[number - FILES.len()]);
                read_with(&path, content, || of_cgroup(root));
            }
        }
    });
}

/// Reads with another content of the file, and puts back what there was.
fn read_with(path: &Path, content: &[u8], read: impl FnOnce()) {
    let before = fs::read(path).ok();
    fs::write(path, content).expect("a file");
    read();
    match before {
        Some(before) => fs::write(path, before).expect("a file"),
        None => fs::remove_file(path).expect("a file"),
    }
}

fn made(mounts: &str, paths: &str) -> TempDir {
    let root = directory();
    let directories = FILES
        .iter()
        .filter_map(|(path, _)| Path::new(path).parent());
    for directory in directories.chain([Path::new(CGROUP), Path::new("proc/1/ns")]) {
        fs::create_dir_all(root.path().join(directory)).expect("a directory");
    }
    for (path, content) in [
        ("proc/self/mountinfo", mounts),
        ("proc/self/cgroup", paths),
        ("proc/1/cgroup", paths),
        (
            "sys/fs/cgroup/cgroup.controllers",
            "cpuset cpu io memory pids\n",
        ),
        ("proc/1/status", "State:\tR (running)\n"),
        ("etc/passwd", "me:x:1000:1000::/:/bin/sh\n"),
    ] {
        fs::write(root.path().join(path), content).expect("a file");
    }
    root
}

fn of_process(root: &Path) {
    let process = Process::new(root, 1);
    let _ = (process.started(), process.started_at(), process.state());
    let _ = (process.is_ending(), process.arguments(), process.comm());
    let _ = (process.ids("uid_map"), process.mounts(), process.status());
    let _ = (Membership::of(root, 1), hits::wanted_cpu(root, &[1]));
    let _ = (hits::written_bytes(root, 1), hits::allowed_cpus(root, 1));
    let _ = population::runnable(root, &[1], 1);
}

fn of_network(root: &Path) {
    let _ = (network::of_host(root), network::of_process(root, 1, 0));
}

fn of_hierarchies(root: &Path) {
    let _ = (namespace::mounted(root), Membership::own(root));
    if let Ok(hierarchies) = Hierarchies::discover(root) {
        let _ = (hierarchies.layout(), hierarchies.owner_of("/web"));
        let _ = hierarchies.path_of(&root.join(CGROUP));
    }
}

fn of_system(root: &Path) {
    let _ = (System::read(root), Capacity::read(root), system::cpus(root));
    let _ = (hits::swap_total(root), changes::watches_allowed(root));
    let _ = devices::Devices::new(root).name(8, 0);
}

fn of_accounts(root: &Path) {
    let etc = root.join("etc");
    let _ = subordinate::of_user(&etc, "subuid", 1000);
    let _ = Subordinates::new(root).whose(100_000);
}

/// What `ps`, `inspect`, `verify` and a scrape read of a cgroup.
fn of_cgroup(root: &Path) {
    let Ok(hierarchies) = Hierarchies::discover(root) else {
        return;
    };
    let membership = Membership::at(&hierarchies, "/web");
    let _ = Hits::read(&hierarchies, &membership);
    let limits = Limits {
        hierarchies: &hierarchies,
        membership: &membership,
    };
    for (kind, device) in limits.all() {
        let _ = limits.chain(kind, device);
    }
    let mut kept = Vec::new();
    for mounted in hierarchies.all() {
        if let Some(directory) = hierarchies.directory(mounted, "/web") {
            let _ = (
                directory.memory(),
                directory.cpu_usage(),
                directory.oom_kills(),
            );
            let _ = (directory.is_frozen(), population::processes(&directory));
        }
        for (id, path) in [(1, "/"), (2, "/web")] {
            let hierarchy = mounted.id;
            kept.push(vec![Directory {
                key: CgroupKey {
                    id,
                    hierarchy,
                    zero: 0,
                },
                path: path.into(),
            }]);
        }
    }
    let _ = Kept::new(0, 0).read(&hierarchies, &kept);
}
