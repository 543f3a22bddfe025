//! Which file of v2 fills which fields.

use agent_model::limit::Device;

use super::*;
use crate::reading::Operation;

const MOUNTINFO: &str = "\
22 1 0:21 / /proc rw - proc proc rw
31 1 0:28 / /cg rw - cgroup2 cgroup2 rw
";

/// A file, its text, and all fields that a reading has from it.
type Row = (&'static str, &'static str, fn(&mut Reading));

const ROWS: &[Row] = &[
    ("memory.current", "11\n", |it| {
        it.set(Field::MemoryUsage, 11)
    }),
    (
        "memory.stat",
        "anon 1\nfile 2\nkernel 99\nfile_mapped 3\ninactive_file 4\nactive_file 5\npgfault 6\npgmajfault 7\n",
        |it| {
            it.set(Field::Rss, 1);
            it.set(Field::Cache, 2);
            it.set(Field::KernelMemory, 99);
            it.set(Field::MappedFile, 3);
            it.set(Field::InactiveFile, 4);
            it.set(Field::ActiveFile, 5);
            it.set(Field::TreeFaults, 6);
            it.set(Field::TreeMajorFaults, 7);
        },
    ),
    (
        "cpu.stat",
        "usage_usec 1\nuser_usec 2\nsystem_usec 3\nnr_periods 4\nnr_throttled 5\nthrottled_usec 6\n",
        |it| {
            it.set(Field::CpuUsage, 1000);
            it.set(Field::CpuUser, 2000);
            it.set(Field::CpuSystem, 3000);
            it.set(Field::Periods, 4);
            it.set(Field::ThrottledPeriods, 5);
            it.set(Field::ThrottledTime, 6000);
        },
    ),
    ("pids.current", "12\n", |it| it.set(Field::Threads, 12)),
    (
        "io.stat",
        "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
        |it| {
            let of = Device {
                major: 8,
                minor: 16,
            };
            let device = it.device(of).unwrap();
            for (operation, bytes, count) in [
                (Operation::Read, 1, 3),
                (Operation::Write, 2, 4),
                (Operation::Discard, 5, 6),
            ] {
                device.bytes[operation as usize] = Some(bytes);
                device.count[operation as usize] = Some(count);
            }
        },
    ),
    ("memory.swap.current", "13\n", |it| it.set(Field::Swap, 13)),
    (
        "cpu.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
        |it| {
            it.set(Field::CpuWaiting, 1000);
            it.set(Field::CpuStalled, 2000);
        },
    ),
    (
        "memory.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4\n",
        |it| {
            it.set(Field::MemoryWaiting, 3000);
            it.set(Field::MemoryStalled, 4000);
        },
    ),
    (
        "io.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=6\n",
        |it| {
            it.set(Field::IoWaiting, 5000);
            it.set(Field::IoStalled, 6000);
        },
    ),
    (
        "memory.events.local",
        "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\n",
        |it| it.set(Field::Failcnt, 3),
    ),
    ("memory.peak", "14\n", |it| it.set(Field::MaxUsage, 14)),
    ("memory.max", "15\n", |it| it.set(Field::MemoryLimit, 15)),
    ("cpu.max", "5000 50000\n", |it| {
        it.set(Field::CpuQuota, 5000);
        it.set(Field::CpuPeriod, 50_000);
    }),
    ("pids.max", "max\n", |it| {
        it.set_limit(Field::ThreadsMax, Limit::Max);
    }),
    ("memory.swap.max", "16\n", |it| it.set(Field::SwapLimit, 16)),
    ("memory.high", "17\n", |it| it.set(Field::Reservation, 17)),
    ("cpu.weight", "39\n", |it| it.set(Field::CpuWeight, 39)),
];

#[test]
fn each_file_says_its_own() {
    let mut files = Vec::new();
    for (name, text, set) in ROWS {
        let root = tree(&[
            ("proc/self/mountinfo", MOUNTINFO),
            ("proc/self/cgroup", "0::/\n"),
            ("cg/cgroup.controllers", "cpu io memory pids\n"),
            (&*format!("cg/a/{name}"), text),
        ]);
        let hierarchies = Hierarchies::discover(root.path()).unwrap();
        let directory = Directory {
            key: CgroupKey {
                id: 2,
                hierarchy: 0,
                zero: 0,
            },
            path: "/a".into(),
        };
        let (readings, errors) = Kept::new(9, 9999).read(&hierarchies, &[vec![directory]]);
        assert_eq!(errors.count, 0, "{name}: {:?}", errors.first);
        let mut wanted = Reading::default();
        set(&mut wanted);
        assert_eq!(readings, [wanted], "{name}");
        let read = FILES.iter().filter(|file| {
            let mounted = &hierarchies.all()[0];
            file.has_metrics() && file.is_in(mounted, &hierarchies)
        });
        files = read.map(|file| file.name).collect();
    }
    let rows: Vec<_> = ROWS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(rows, files);
}
