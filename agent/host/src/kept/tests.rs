//! Readings of directories that look like the kernel's.

mod v2;

use std::path::Path;

use agent_model::limit::Limit;
use tempfile::TempDir;

use super::*;
use crate::fixture::{add, tree};
use crate::reading::{DEVICES_AT_MOST, Field, Operation};

const MOUNTINFO: &str = "\
22 1 0:21 / /proc rw - proc proc rw
31 1 0:28 / /cg rw - tmpfs tmpfs rw
32 31 0:29 / /cg/memory rw - cgroup cgroup rw,memory
33 31 0:30 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct
41 31 0:37 / /cg/unified rw - cgroup2 cgroup2 rw
";

fn host() -> (TempDir, Hierarchies) {
    let root = tree(&[
        ("proc/self/mountinfo", MOUNTINFO),
        ("proc/self/cgroup", "2:memory:/\n1:cpu,cpuacct:/\n0::/\n"),
        ("cg/unified/cgroup.controllers", "pids\n"),
        ("proc/meminfo", ""),
    ]);
    let hierarchies = Hierarchies::discover(root.path()).unwrap();
    (root, hierarchies)
}

/// The number of descriptors that are kept, and the limit.
fn descriptors(kept: &Kept) -> (usize, usize) {
    let sizes = kept.sizes();
    (sizes.descriptors, sizes.descriptors_limit)
}

fn add_cgroup(root: &Path, name: &str, usage: &str) -> Vec<Directory> {
    let stat = "total_cache 5\ntotal_rss 6\ntotal_inactive_file 7\n";
    add(
        root,
        &[
            (&*format!("cg/memory/{name}/memory.usage_in_bytes"), usage),
            (&*format!("cg/memory/{name}/memory.stat"), stat),
            (
                &*format!("cg/memory/{name}/memory.limit_in_bytes"),
                "4096\n",
            ),
            (&*format!("cg/cpu/{name}/cpu.shares"), "1024\n"),
            (&*format!("cg/unified/{name}/pids.current"), "3\n"),
            (&*format!("cg/unified/{name}/pids.max"), "max\n"),
        ],
    );
    let directory = |hierarchy| Directory {
        key: CgroupKey {
            id: name.len() as u64,
            hierarchy,
            zero: 0,
        },
        path: format!("/{name}").into(),
    };
    (0..3).map(directory).collect()
}

#[test]
fn all_hierarchies_are_read_and_files_stay_open() {
    let (root, hierarchies) = host();
    let cgroups = [add_cgroup(root.path(), "a", "3000\n")];
    let mut kept = Kept::new(100, 9999);
    for usage in ["3000", "4000", "5000"] {
        add(root.path(), &[("cg/memory/a/memory.usage_in_bytes", usage)]);
        // A setting is remembered, and read again when it is written to.
        add(root.path(), &[("cg/cpu/a/cpu.shares", usage)]);
        let (readings, errors) = kept.read(&hierarchies, &cgroups);
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        let [reading] = &readings[..] else {
            panic!("{readings:?}");
        };
        assert_eq!(reading.number(Field::MemoryUsage), usage.parse().ok());
        assert_eq!(reading.number(Field::Rss), Some(6));
        assert_eq!(reading.limit(Field::MemoryLimit), Some(Limit::Value(4096)));
        assert_eq!(reading.limit(Field::ThreadsMax), Some(Limit::Max));
        assert_eq!(reading.number(Field::CpuShares), usage.parse().ok());
        // There is no such file.
        assert_eq!(reading.number(Field::Failcnt), None);
        assert_eq!(descriptors(&kept), (3, 100));
    }
    let (none, _) = kept.read(&hierarchies, &[]);
    assert_eq!((none.len(), descriptors(&kept)), (0, (0, 100)));
}

#[test]
fn what_changes_most_is_kept_where_there_is_little_room() {
    let (root, hierarchies) = host();
    let names = ["a", "bb", "ccc"];
    let cgroups = names.map(|name| add_cgroup(root.path(), name, "1\n"));
    let mut kept = Kept::new(7, 9999);
    for _ in 0..3 {
        let (readings, errors) = kept.read(&hierarchies, &cgroups);
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        for reading in readings {
            assert_eq!(reading.number(Field::CpuShares), Some(1024));
        }
    }
    // Of each cgroup the memory usage and `memory.stat`, and one more file.
    assert_eq!(descriptors(&kept), (7, 7));
    let few = &cgroups[..1];
    for _ in 0..2 {
        let _ = kept.read(&hierarchies, few);
    }
    assert_eq!(descriptors(&kept), (3, 7));
}

/// In how many cgroups this file is open.
fn open(kept: &Kept, name: &str) -> usize {
    let of = |plan: &Plan| plan.files.iter().position(|&file| FILES[file].name == name);
    let mut plans = kept.plans.iter();
    let (id, at) = plans
        .find_map(|plan| Some((plan.mounted.id, of(plan)?)))
        .unwrap();
    let entries = kept.entries.iter().filter(|(key, _)| key.hierarchy == id);
    entries
        .filter(|(_, entry)| matches!(entry.slots[at], Slot::Open(_)))
        .count()
}

#[test]
fn what_is_read_seldom_gives_way() {
    let (root, hierarchies) = host();
    let cgroups = ["a", "bb"].map(|name| {
        let usage = format!("cg/cpu/{name}/cpuacct.usage");
        let stat = format!("cg/cpu/{name}/cpuacct.stat");
        add(
            root.path(),
            &[(&*usage, "100\n"), (&*stat, "user 1\nsystem 2\n")],
        );
        add_cgroup(root.path(), name, "1\n")
    });
    let mut kept = Kept::new(6, 9999);
    for usage in ["100\n", "200\n"] {
        add(root.path(), &[("cg/cpu/a/cpuacct.usage", usage)]);
        let _ = kept.read(&hierarchies, &cgroups[..1]);
    }
    assert_eq!(open(&kept, "cpuacct.stat"), 1);
    for _ in 0..3 {
        let (readings, _) = kept.read(&hierarchies, &cgroups);
        for reading in readings {
            assert_eq!(reading.number(Field::CpuUser), Some(10_000_000));
        }
    }
    assert_eq!(open(&kept, "cpuacct.stat"), 0);
    assert_eq!(open(&kept, "cpuacct.usage"), 2);
    assert_eq!(descriptors(&kept), (6, 6));
}

#[test]
fn a_cgroup_removed_meanwhile_is_no_error() {
    let (root, hierarchies) = host();
    let cgroups = [add_cgroup(root.path(), "a", "1\n")];
    std::fs::remove_dir_all(root.path().join("cg/memory/a")).unwrap();
    let (readings, errors) = Kept::new(9, 9999).read(&hierarchies, &cgroups);
    assert_eq!(errors.count, 0, "{:?}", errors.first);
    assert_eq!(readings[0].number(Field::MemoryUsage), None);
    // The cgroup had a limit, whose last value is unknown.
    assert!(readings[0].is_unread(Field::MemoryLimit));
    assert_eq!(readings[0].number(Field::Threads), Some(3));
}

#[test]
fn what_cannot_be_read_is_counted() {
    let (root, hierarchies) = host();
    let cgroups = [add_cgroup(root.path(), "a", "-1\n")];
    add(root.path(), &[("cg/memory/a/memory.stat", "gibberish")]);
    let mut kept = Kept::new(9, 9999);
    let (readings, errors) = kept.read(&hierarchies, &cgroups);
    assert_eq!(errors.count, 2);
    assert_eq!(readings[0].number(Field::MemoryUsage), None);
    let first = errors.first.unwrap().to_string();
    assert!(
        first.contains("a/memory.usage_in_bytes: found \"-1"),
        "{first}"
    );
    assert!(first.contains("wanted a number"), "{first}");
}

#[test]
fn many_cgroups_are_read_by_several_threads() {
    let (root, hierarchies) = host();
    let mut cgroups = Vec::new();
    for number in 0..(3 * CGROUPS_A_THREAD) {
        let usage = format!("{number}\n");
        let mut directories = add_cgroup(root.path(), &format!("a{number}"), &usage);
        for directory in &mut directories {
            directory.key.id = number as u64;
        }
        cgroups.push(directories);
    }
    let mut kept = Kept::new(500, 9999);
    for _ in 0..2 {
        let (readings, errors) = kept.read(&hierarchies, &cgroups);
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        for (number, reading) in readings.iter().enumerate() {
            assert_eq!(reading.number(Field::MemoryUsage), Some(number as u64));
        }
        assert_eq!(descriptors(&kept), (500, 500));
    }
}

#[test]
fn what_is_not_watched_is_read_each_time() {
    let (root, hierarchies) = host();
    let names = ["a", "bb"];
    let cgroups = names.map(|name| add_cgroup(root.path(), name, "1\n"));
    let mut kept = Kept::new(100, 4);
    for shares in [10, 20] {
        for name in names {
            let file = format!("cg/cpu/{name}/cpu.shares");
            add(root.path(), &[(&*file, &*shares.to_string())]);
        }
        let (readings, _) = kept.read(&hierarchies, &cgroups);
        for reading in readings {
            assert_eq!(reading.number(Field::CpuShares), Some(shares));
        }
        let sizes = kept.sizes();
        assert_eq!((sizes.watched, sizes.unwatched), (4, 2));
    }
    // One watch is free again.
    let _ = kept.read(&hierarchies, &cgroups[1..]);
    let sizes = kept.sizes();
    assert_eq!((sizes.watched, sizes.unwatched), (3, 0));
}

/// Four rows for each device: twice as much as fits into the first buffer.
#[test]
fn a_file_of_many_devices_is_read_whole() {
    let (root, _) = host();
    let mountinfo = MOUNTINFO.replace("cpu,cpuacct", "cpu,cpuacct,blkio");
    let rows = (0..1000).map(|minor| {
        let row = |operation: &str| format!("259:{minor} {operation} 1234567890123456\n");
        ["Read", "Write", "Sync", "Async", "Discard", "Total"]
            .map(row)
            .concat()
    });
    let text = rows.collect::<String>() + "Total 7\n";
    assert!(text.len() > 128 << 10);
    let file = "cg/cpu/a/blkio.throttle.io_service_bytes_recursive";
    let cgroup = "2:memory:/\n1:cpu,cpuacct,blkio:/\n0::/\n";
    add(
        root.path(),
        &[
            ("proc/self/mountinfo", &*mountinfo),
            ("proc/self/cgroup", cgroup),
            (file, &text),
        ],
    );
    let hierarchies = Hierarchies::discover(root.path()).unwrap();
    let cgroups = [add_cgroup(root.path(), "a", "1\n")];
    let mut kept = Kept::new(100, 9999);
    for _ in 0..2 {
        let (readings, errors) = kept.read(&hierarchies, &cgroups);
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        assert_eq!(readings[0].devices.len(), DEVICES_AT_MOST);
        // Each of the other devices has the rows of all operations.
        let others = 1000 - DEVICES_AT_MOST as u64;
        assert_eq!(readings[0].left_out, others * Operation::ALL.len() as u64);
    }
}

#[test]
fn controllers_that_come_later_are_seen() {
    let (root, hierarchies) = host();
    let cgroups = [add_cgroup(root.path(), "a", "1\n")];
    let pids = root.path().join("cg/unified/a/pids.max");
    std::fs::remove_file(&pids).unwrap();
    let mut kept = Kept::new(100, 9999);
    let mut limit = || {
        let (readings, errors) = kept.read(&hierarchies, &cgroups);
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        readings[0].limit(Field::ThreadsMax)
    };
    assert_eq!(limit(), None);
    std::fs::write(&pids, "7\n").unwrap();
    add(root.path(), &[("cg/memory/a/cgroup.subtree_control", "")]);
    assert_eq!(limit(), Some(Limit::Value(7)));
}

#[test]
fn a_path_that_is_used_again_is_watched_again() {
    let (root, hierarchies) = host();
    let mut cgroups = [add_cgroup(root.path(), "a", "1\n")];
    let mut kept = Kept::new(100, 9999);
    for (id, shares) in [(1, 10), (2, 20), (2, 30)] {
        cgroups[0].iter_mut().for_each(|it| it.key.id = id);
        add(
            root.path(),
            &[("cg/cpu/a/cpu.shares", &*shares.to_string())],
        );
        let (readings, _) = kept.read(&hierarchies, &cgroups);
        assert_eq!(readings[0].number(Field::CpuShares), Some(shares));
        assert_eq!(kept.sizes().watched, 3);
    }
}

#[test]
fn what_cannot_be_opened_is_an_error_each_time() {
    let (root, hierarchies) = host();
    let cgroups = [add_cgroup(root.path(), "a", "1\n")];
    let usage = root.path().join("cg/memory/a/memory.usage_in_bytes");
    std::fs::remove_file(&usage).unwrap();
    // Nobody can open it: the link is a loop.
    std::os::unix::fs::symlink(&usage, &usage).unwrap();
    let mut kept = Kept::new(9, 9999);
    for _ in 0..3 {
        let (readings, errors) = kept.read(&hierarchies, &cgroups);
        assert_eq!(errors.count, 1);
        assert!(readings[0].is_unread(Field::MemoryUsage));
        // A file that the kernel does not have is not an error.
        assert!(!readings[0].is_unread(Field::Failcnt));
        assert!(!readings[0].is_unread(Field::Rss));
    }
}

#[test]
fn what_changes_with_a_field_only_is_read_when_that_does() {
    let (root, hierarchies) = host();
    let cgroups = [add_cgroup(root.path(), "a", "1\n")];
    let mut kept = Kept::new(100, 9999);
    let mut user = |usage: &str, stat: &str| {
        add(
            root.path(),
            &[
                ("cg/cpu/a/cpuacct.usage", usage),
                ("cg/cpu/a/cpuacct.stat", stat),
            ],
        );
        let (readings, errors) = kept.read(&hierarchies, &cgroups);
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        [Field::CpuUser, Field::CpuSystem].map(|field| readings[0].number(field))
    };
    let ticks = |user, system| [user, system].map(|ticks: u64| Some(ticks * 10_000_000));
    assert_eq!(user("100\n", "user 1\nsystem 2\n"), ticks(1, 2));
    assert_eq!(user("100\n", "user 3\nsystem 4\n"), ticks(1, 2));
    assert_eq!(user("200\n", "user 3\nsystem 4\n"), ticks(3, 4));
}

#[test]
fn failures_are_remembered_where_nothing_is_limited() {
    let (root, hierarchies) = host();
    let cgroups = [add_cgroup(root.path(), "a", "1\n")];
    let mut kept = Kept::new(100, 9999);
    let mut failures = |limit: &str, failcnt: &str| {
        let stat = format!("hierarchical_memory_limit {limit}\n");
        add(root.path(), &[("cg/memory/a/memory.stat", &*stat)]);
        add(root.path(), &[("cg/memory/a/memory.failcnt", failcnt)]);
        let (readings, errors) = kept.read(&hierarchies, &cgroups);
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        (readings[0].number(Field::Failcnt), kept.sizes().descriptors)
    };
    assert_eq!(failures("4096", "1\n"), (Some(1), 4));
    assert_eq!(failures("9223372036854771712", "2\n"), (Some(2), 3));
    assert_eq!(failures("9223372036854771712", "3\n"), (Some(3), 3));
    assert_eq!(failures("4096", "4\n"), (Some(4), 4));
}
