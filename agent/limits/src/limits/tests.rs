//! The limits that bind a process, read from fixtures of the kernel's files.

use std::path::Path;

use agent_host::fixture::{add, tree};
use agent_model::limit::{Held, Limit};

use super::*;

const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
const V1: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
";

fn host(mountinfo: &str, ids: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tree(&[
        ("proc/self/mountinfo", mountinfo),
        ("proc/self/cgroup", ids),
        ("sys/fs/cgroup/cgroup.controllers", "cpu memory cpuset\n"),
    ]);
    add(root.path(), files);
    root
}

fn read(root: &Path, path: &str, kind: Kind) -> Result<Chain, Error> {
    let hierarchies = Hierarchies::discover(root).unwrap();
    let membership = Membership::at(&hierarchies, path);
    let limits = Limits {
        hierarchies: &hierarchies,
        membership: &membership,
    };
    limits.chain(kind, None)
}

#[test]
fn v2() {
    let root = host(
        V2,
        "0::/\n",
        &[
            ("sys/fs/cgroup/a/memory.max", "100\n"),
            ("sys/fs/cgroup/a/cgroup.subtree_control", "memory cpuset\n"),
            (
                "sys/fs/cgroup/cgroup.subtree_control",
                "memory cpu cpuset\n",
            ),
            ("sys/fs/cgroup/a/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "150\n"),
            ("sys/fs/cgroup/a/b/cpuset.cpus", "\n"),
            ("sys/fs/cgroup/a/cpuset.cpus.effective", "0-1\n"),
        ],
    );
    let chain = read(root.path(), "/a/b", Kind::Memory).unwrap();
    let own = chain.own.as_ref().unwrap();
    assert_eq!((&*own.cgroup, &*own.text), ("/a/b", "150"));
    let effective = chain.effective().unwrap();
    assert_eq!(effective.cgroup, "/a");
    assert_eq!(effective.held, Held::Amount(Limit::Value(100)));
    // /a does not enable the controller for its children.
    let chain = read(root.path(), "/a/b", Kind::CpuQuota).unwrap();
    let file = root.path().join("sys/fs/cgroup/a/cgroup.subtree_control");
    let controller = "cpu".to_owned();
    let advice = format!("as root: echo +{controller} > {}", file.display());
    let missing = Missing::NotEnabled {
        controller,
        file,
        advice,
    };
    assert_eq!(chain.own, Err(missing));
    assert!(matches!(
        read(root.path(), "/a/b", Kind::Pids).unwrap().own,
        Err(Missing::NoController { .. })
    ));
    assert!(matches!(
        read(root.path(), "/a/b", Kind::MemorySwap).unwrap().own,
        Err(Missing::NoFile { .. })
    ));
    let cpus = read(root.path(), "/a/b", Kind::CpusetCpus).unwrap();
    assert_eq!(cpus.effective().unwrap().held.to_string(), "0-1");
}

#[test]
fn v1() {
    let root = host(
        V1,
        "4:memory:/\n2:cpu,cpuacct:/\n",
        &[
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "100\n"),
            ("sys/fs/cgroup/memory/a/memory.use_hierarchy", "1\n"),
            (
                "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n"),
        ],
    );
    let chain = read(root.path(), "/a/b", Kind::Memory).unwrap();
    assert_eq!(chain.effective().unwrap().cgroup, "/a");
    add(
        root.path(),
        &[("sys/fs/cgroup/memory/a/memory.use_hierarchy", "0\n")],
    );
    let chain = read(root.path(), "/a/b", Kind::Memory).unwrap();
    assert_eq!(chain.effective(), None);
    let quota = read(root.path(), "/a/b", Kind::CpuQuota).unwrap();
    assert_eq!(quota.own.unwrap().text, "50000 100000");
}

/// The effective limit of `/a/b`, which has a limit of 100, where the root of the mount is `mounted`.
fn told_by_v1(mounted: &str, limit: &str) -> Option<(String, String)> {
    let mountinfo = V1.replace("0:32 /", &format!("0:32 {mounted}"));
    let below = "/a/b".strip_prefix(mounted.trim_end_matches('/')).unwrap();
    let file = |name| format!("sys/fs/cgroup/memory{below}/{name}");
    let stat = format!("cache 0\nhierarchical_memory_limit {limit}\ntotal_cache 0\n");
    let files = [
        (&*file("memory.limit_in_bytes"), "100\n"),
        (&*file("memory.stat"), &*stat),
    ];
    let root = host(&mountinfo, "4:memory:/\n2:cpu,cpuacct:/\n", &files);
    let effective = read(root.path(), "/a/b", Kind::Memory).unwrap().effective();
    effective.map(|link| (link.cgroup, link.held.to_string()))
}

#[test]
fn v1_tells_of_limits_that_are_out_of_sight() {
    for (mounted, limit, cgroup, wanted) in [
        ("/", "100", "/a/b", "100"),
        ("/", "70", "/..", "70"),
        ("/a/b", "70", "/a", "70"),
        ("/a/b", "9223372036854771712", "/a/b", "100"),
    ] {
        let found = told_by_v1(mounted, limit).unwrap();
        assert_eq!(found, (cgroup.to_owned(), wanted.to_owned()));
    }
}

#[test]
fn devices_with_rows() {
    let root = host(
        V2,
        "0::/\n",
        &[
            ("sys/fs/cgroup/cgroup.controllers", "io\n"),
            ("sys/fs/cgroup/a/io.max", "8:16 rbps=1 wbps=max\n"),
            ("sys/fs/cgroup/a/b/io.max", "8:0 rbps=max wbps=5\nodd\n"),
        ],
    );
    let hierarchies = Hierarchies::discover(root.path()).unwrap();
    let membership = Membership::at(&hierarchies, "/a/b");
    let limits = Limits {
        hierarchies: &hierarchies,
        membership: &membership,
    };
    let [first, second] = [(8, 0), (8, 16)].map(|(major, minor)| Device { major, minor });
    assert_eq!(
        limits.devices(Kind::ReadBps),
        BTreeSet::from([first, second])
    );
    assert_eq!(limits.devices(Kind::Memory), BTreeSet::new());
    let chain = limits.chain(Kind::ReadBps, Some(second)).unwrap();
    assert_eq!(chain.effective().unwrap().cgroup, "/a");
}

#[test]
fn what_is_gone_and_what_is_odd() {
    let odd = [("sys/fs/cgroup/a/memory.max", "many\n")];
    let root = host(V2, "0::/\n", &odd);
    let error = read(root.path(), "/a", Kind::Memory).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    let hierarchies = Hierarchies::discover(root.path()).unwrap();
    let membership: Membership = [(0, "/b".to_owned())].into_iter().collect();
    let limits = Limits {
        hierarchies: &hierarchies,
        membership: &membership,
    };
    let error = limits.chain(Kind::Memory, None).unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error}");
}
