//! What is written of cgroups whose numbers are given.

use agent_ebpf::{Call, Ending, NamespaceType};

use super::*;
use crate::host::network::Traffic;
use crate::host::reading::{DeviceUse, Operation};
use crate::metrics::catalogue;

fn cgroup(id: &str) -> Cgroup {
    Cgroup::new(Labels::new(id, "", ""), Counts::default())
}

fn living(id: &str) -> Cgroup {
    let live = Live {
        start_time: Duration::new(1_700_000_000, 250_000_000),
        last_seen: Duration::from_secs(1_800_000_000),
        processes: Some(2),
    };
    Cgroup {
        live: Some(live),
        ..cgroup(id)
    }
}

fn written(cgroups: &[Cgroup]) -> String {
    let mut out = Writer::default();
    for source in SOURCES.iter().copied().flatten() {
        source.write(cgroups, &mut out);
    }
    out.take().concat()
}

/// The samples of a family, without its name.
fn samples<'a>(text: &'a str, metric: &Metric) -> Vec<&'a str> {
    let samples = text
        .lines()
        .filter_map(|line| line.strip_prefix(metric.name));
    samples
        .filter(|rest| rest.starts_with(['{', ' ']))
        .collect()
}

#[test]
fn every_family_of_a_cgroup_is_written_once() {
    let written: Vec<_> = SOURCES.iter().copied().flatten().collect();
    let mut names: Vec<_> = written.iter().map(|source| source.metric.name).collect();
    names.sort_unstable();
    let mut all: Vec<_> = catalogue::ALL
        .iter()
        .filter(|metric| metric.labels.ends_with(&Labels::NAMES))
        .map(|metric| metric.name)
        .collect();
    all.sort_unstable();
    assert_eq!(names, all);
}

#[test]
fn what_was_read() {
    let mut a = living("/a");
    for (field, value) in [
        (Field::CpuUsage, 1_500_000_001),
        (Field::CpuUser, 250_000_000),
        (Field::MemoryUsage, 3000),
        (Field::InactiveFile, 1000),
        (Field::Faults, 1),
        (Field::TreeFaults, 2),
        (Field::TreeMajorFaults, 3),
        (Field::Periods, 7),
    ] {
        a.reading.set(field, value);
    }
    a.reading.set_limit(Field::TreeMemoryLimit, Limit::Max);
    a.reading.set_limit(Field::ThreadsMax, Limit::Max);
    let mut b = living("/b");
    b.reading.set(Field::MemoryUsage, 500);
    b.reading.set(Field::InactiveFile, 600);
    b.reading.set_limit(Field::MemoryLimit, Limit::Value(4096));
    b.reading.set(Field::CpuQuota, 50_000);
    b.reading.set(Field::CpuPeriod, 100_000);
    b.reading.set(Field::Periods, 9);
    b.reading.set(Field::ThrottledTime, 20_000_000);
    let text = written(&[a, b]);
    for (metric, wanted) in [
        (
            &catalogue::CPU_USAGE,
            &[r#"{cpu="total",id="/a",image="",name=""} 1.500000001"#][..],
        ),
        (
            &catalogue::CPU_USER,
            &[r#"{id="/a",image="",name=""} 0.25"#],
        ),
        (&catalogue::CPU_SYSTEM, &[]),
        (
            &catalogue::MEMORY_WORKING_SET,
            &[
                r#"{id="/a",image="",name=""} 2000"#,
                r#"{id="/b",image="",name=""} 0"#,
            ],
        ),
        (
            &catalogue::MEMORY_LIMIT,
            &[
                r#"{id="/a",image="",name=""} 0"#,
                r#"{id="/b",image="",name=""} 4096"#,
            ],
        ),
        (
            &catalogue::MEMORY_FAILURES,
            &[
                r#"{failure_type="pgfault",scope="container",id="/a",image="",name=""} 1"#,
                r#"{failure_type="pgfault",scope="hierarchy",id="/a",image="",name=""} 2"#,
                r#"{failure_type="pgmajfault",scope="container",id="/a",image="",name=""} 3"#,
                r#"{failure_type="pgmajfault",scope="hierarchy",id="/a",image="",name=""} 3"#,
            ],
        ),
        // Of the other one there is no quota.
        (
            &catalogue::CFS_PERIODS,
            &[r#"{id="/b",image="",name=""} 9"#],
        ),
        (
            &catalogue::CFS_THROTTLED_TIME,
            &[r#"{id="/b",image="",name=""} 0.02"#],
        ),
        (
            &catalogue::SPEC_CPU_QUOTA,
            &[r#"{id="/b",image="",name=""} 50000"#],
        ),
        (
            &catalogue::THREADS_MAX,
            &[r#"{id="/a",image="",name=""} 0"#],
        ),
        (
            &catalogue::PROCESSES,
            &[
                r#"{id="/a",image="",name=""} 2"#,
                r#"{id="/b",image="",name=""} 2"#,
            ],
        ),
        (
            &catalogue::START_TIME,
            &[
                r#"{id="/a",image="",name=""} 1700000000.25"#,
                r#"{id="/b",image="",name=""} 1700000000.25"#,
            ],
        ),
    ] {
        assert_eq!(samples(&text, metric), wanted, "{}", metric.name);
    }
    assert!(text.starts_with(
        "# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed in seconds.\n\
         # TYPE container_cpu_usage_seconds_total counter\n\
         container_cpu_usage_seconds_total{"
    ));
}

#[test]
fn devices_and_interfaces() {
    let mut a = living("/a");
    let mut device = DeviceUse {
        major: 253,
        ..DeviceUse::default()
    };
    device.bytes[Operation::Read as usize] = Some(4096);
    device.count[Operation::Read as usize] = Some(2);
    a.reading.devices = vec![device.clone(), device];
    a.devices = vec!["/dev/vda".into(), "".into()];
    let traffic = |bytes| Traffic {
        bytes,
        ..Traffic::default()
    };
    a.interfaces = vec![Interface {
        name: "eth\"0".into(),
        receive: traffic(7),
        transmit: traffic(8),
    }];
    let text = written(&[a]);
    let one = |metric, wanted: &str| assert_eq!(samples(&text, metric), [wanted]);
    one(
        &catalogue::FS_READS_BYTES,
        r#"{device="/dev/vda",id="/a",image="",name=""} 4096"#,
    );
    one(
        &catalogue::FS_READS,
        r#"{device="/dev/vda",id="/a",image="",name=""} 2"#,
    );
    assert_eq!(samples(&text, &catalogue::FS_WRITES), [""; 0]);
    assert_eq!(
        samples(&text, &catalogue::BLKIO_USAGE)[0],
        r#"{device="/dev/vda",major="253",minor="0",operation="Read",id="/a",image="",name=""} 4096"#
    );
    one(
        &catalogue::NETWORK_RECEIVE_BYTES,
        r#"{interface="eth\"0",id="/a",image="",name=""} 7"#,
    );
    one(
        &catalogue::NETWORK_TRANSMIT_BYTES,
        r#"{interface="eth\"0",id="/a",image="",name=""} 8"#,
    );
}

#[test]
fn a_dead_cgroup_has_what_happened_in_it() {
    let mut dead = cgroup("/dead");
    dead.counts.oom_kills = 2;
    dead.counts.oom_limit_kills = 3;
    dead.counts.calls[Call::Unshare as usize][NamespaceType::Net as usize] = 5;
    dead.counts.failed[Call::Setns as usize] = 1;
    dead.counts.exits[Ending::Signal as usize] = 4;
    dead.counts.execs = 6;
    let text = written(&[dead]);
    let counted = [
        (&catalogue::OOM_EVENTS, "", 2),
        (&catalogue::OOM_KILLS, r#"role="limit_owner","#, 3),
        (&catalogue::EXECS, "", 6),
        (&catalogue::EXITS, r#"how="signal","#, 4),
        (
            &catalogue::NAMESPACE_CALLS,
            r#"call="unshare",type="net","#,
            5,
        ),
        (&catalogue::NAMESPACE_CALL_ERRORS, r#"call="setns","#, 1),
    ];
    for (metric, own, value) in counted {
        let wanted = format!(r#"{{{own}id="/dead",image="",name=""}} {value}"#);
        let found = samples(&text, metric);
        assert!(found.contains(&&*wanted), "{wanted}: {found:?}");
    }
    assert_eq!(samples(&text, &catalogue::NAMESPACE_CALLS).len(), 24);
    assert_eq!(samples(&text, &catalogue::LAST_SEEN), [""; 0]);
}

#[test]
fn zeros_are_of_containers() {
    let container = Cgroup {
        is_main: true,
        is_container: true,
        ..living("/c")
    };
    let text = written(&[living("/a"), container]);
    assert_eq!(samples(&text, &catalogue::NAMESPACE_CALLS).len(), 24);
    assert_eq!(samples(&text, &catalogue::ESCAPES).len(), 8);
    assert_eq!(samples(&text, &catalogue::EXITS).len(), 8);
    assert_eq!(samples(&text, &catalogue::FORKS).len(), 2);
}

#[test]
fn the_tightest_limit_above_holds() {
    let directory = |path: &str, hierarchy| Directory {
        key: agent_ebpf::CgroupKey {
            id: 1,
            hierarchy,
            zero: 0,
        },
        path: path.into(),
    };
    let paths = ["/", "/a", "/a/b", "/a/b/c", "/d"];
    let directories = paths.map(|path| vec![directory(path, 1), directory(path, 2)]);
    let mut cgroups = paths.map(living);
    for (index, limit) in [(1, 4096), (2, 8192), (3, 1024)] {
        let limit = Limit::Value(limit);
        cgroups[index].reading.set_limit(Field::MemoryLimit, limit);
    }
    for (index, quota) in [(1, 200_000), (2, 50_000)] {
        cgroups[index].reading.set(Field::CpuQuota, quota);
        cgroups[index].reading.set(Field::CpuPeriod, 100_000);
    }
    set_effective(&mut cgroups, &directories, Some(1), Some(2));
    let found = cgroups.map(|cgroup| (cgroup.effective.memory, cgroup.effective.cpu));
    let (two, half) = (Some(2_000_000_000), Some(500_000_000));
    let wanted = [
        (None, None),
        (Some(4096), two),
        (Some(4096), half),
        (Some(1024), half),
        (None, None),
    ];
    assert_eq!(found, wanted);
}
