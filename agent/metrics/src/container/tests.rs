//! The series of cgroups with given values.

mod drift;
mod on_request;

use agent_ebpf::{Call, Counts, Ending, NamespaceType};
use agent_host::network::Traffic;
use agent_host::reading::{DeviceUse, Operation};
use agent_model::hierarchy::Version;
use agent_model::limit::Kind;

use super::*;
use crate::catalogue;
use crate::groups::MetricGroup;

fn cgroup(id: &str) -> Cgroup {
    Cgroup::new(Labels::new(id, "", ""), Counts::default())
}

fn living(id: &str) -> Cgroup {
    let live = Live {
        start_time: Duration::new(1_700_000_000, 250_000_000),
        last_seen: Duration::from_secs(1_800_000_000),
        tasks: Some(Tasks {
            processes: 2,
            ..Tasks::default()
        }),
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

/// Returns the samples of a family, without the family's name.
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
    let mut all: Vec<_> = catalogue::all()
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
        // The other cgroup has no quota.
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
fn of_a_dead_cgroup_what_happens_rarely_is_left() {
    let mut counts = Counts {
        oom_kills: 2,
        execs: 6,
        ..Counts::default()
    };
    counts.calls[Call::Unshare as usize][NamespaceType::Net as usize] = 5;
    counts.failed[Call::Setns as usize] = 1;
    counts.exits[Ending::Signal as usize] = 4;
    counts.exits[Ending::Failure as usize] = 7;
    counts.escapes[NamespaceType::Net as usize] = 1;
    let unknown = Cgroup {
        is_main: true,
        counts: Some(counts),
        ..cgroup("unknown")
    };
    let dead = Cgroup {
        is_gone: true,
        is_container: true,
        labels: Labels::new("/dead", "", ""),
        ..unknown.clone()
    };
    let text = written(&[dead, unknown]);
    let all = text.lines().filter(|line| line.contains("/dead"));
    let all: Vec<&str> = all.collect();
    let wanted = [
        r#"container_oom_events_total{id="/dead",image="",name=""} 2"#,
        r#"container_oom_kills_total{role="victim",id="/dead",image="",name=""} 2"#,
        r#"container_exits_total{how="signal",id="/dead",image="",name=""} 4"#,
        r#"container_escapes_total{type="net",id="/dead",image="",name=""} 1"#,
    ];
    assert_eq!(all, wanted);
    // The sum of the unknown cgroups does not count as removed.
    assert_eq!(samples(&text, &catalogue::NAMESPACE_CALLS).len(), 24);
    assert_eq!(samples(&text, &catalogue::EXECS).len(), 1);
}

#[test]
fn zeros_are_of_containers() {
    let container = Cgroup {
        is_main: true,
        is_container: true,
        ..living("/c")
    };
    let below = Cgroup {
        counts: None,
        ..living("/c/below")
    };
    let text = written(&[living("/a"), container, below]);
    assert_eq!(samples(&text, &catalogue::NAMESPACE_CALLS).len(), 24);
    assert_eq!(samples(&text, &catalogue::ESCAPES).len(), 8);
    assert_eq!(samples(&text, &catalogue::EXITS).len(), 8);
    assert_eq!(samples(&text, &catalogue::FORKS).len(), 2);
}

fn directory(path: &str, hierarchy: u32) -> Directory {
    Directory {
        key: agent_ebpf::CgroupKey {
            id: 1,
            hierarchy,
            zero: 0,
        },
        path: path.into(),
    }
}

/// Memory and pids are in hierarchy 1, CPUs in 2.
fn bound(cgroups: &mut [Cgroup], paths: &[&str], version: Version) {
    let directories: Vec<_> = paths
        .iter()
        .map(|path| vec![directory(path, 1), directory(path, 2)])
        .collect();
    set_bounds(cgroups, &directories, |controller| {
        Some((if controller == "cpu" { 2 } else { 1 }, version))
    });
}

#[test]
fn the_tightest_limit_above_holds() {
    let paths = ["/", "/a", "/a/b", "/a/b/c", "/d"];
    let mut cgroups = paths.map(living);
    for (index, field, limit) in [
        (1, Field::MemoryLimit, 4096),
        (2, Field::MemoryLimit, 8192),
        (3, Field::MemoryLimit, 1024),
        (2, Field::ThreadsMax, 7),
    ] {
        let limit = Limit::Value(limit);
        cgroups[index].reading.set_limit(field, limit);
    }
    for (index, quota) in [(1, 200_000), (2, 50_000)] {
        cgroups[index].reading.set(Field::CpuQuota, quota);
        cgroups[index].reading.set(Field::CpuPeriod, 100_000);
    }
    bound(&mut cgroups, &paths, Version::V2);
    let text = written(&cgroups);
    for (metric, wanted) in [
        (
            &catalogue::EFFECTIVE_MEMORY_LIMIT,
            &[("/a", "4096"), ("/a/b", "4096"), ("/a/b/c", "1024")][..],
        ),
        (
            &catalogue::EFFECTIVE_CPU_LIMIT,
            &[("/a", "2"), ("/a/b", "0.5"), ("/a/b/c", "0.5")],
        ),
        (
            &catalogue::EFFECTIVE_THREADS_MAX,
            &[("/a/b", "7"), ("/a/b/c", "7")],
        ),
    ] {
        let wanted = wanted
            .iter()
            .map(|(id, value)| format!(r#"{{id="{id}",image="",name=""}} {value}"#));
        assert_eq!(
            samples(&text, metric),
            wanted.collect::<Vec<_>>(),
            "{}",
            metric.name
        );
    }
}

#[test]
fn shares_are_those_that_were_asked_for() {
    // The weight in the file, and the intended value.
    for (weight, asked, shares) in [
        (100, Some(1024), "1024"),
        (39, Some(1024), "1024"),
        (59, Some(512), "512"),
        (20, Some(512), "512"),
        // Another program wrote the weight.
        (100, Some(512), "2597"),
        (100, None, "2597"),
        (39, None, "998"),
    ] {
        let mut container = living("/c");
        container.reading.set(Field::CpuWeight, weight);
        container.intended = asked.map(|asked| {
            let limits = vec![(Kind::CpuWeight, agent_model::limit::Value::Shares(asked))];
            let source = agent_model::limit::Source::Docker;
            Arc::new(Intent::new(limits, source))
        });
        let text = written(&[container]);
        let wanted = format!(r#"{{id="/c",image="",name=""}} {shares}"#);
        let found = samples(&text, &catalogue::SPEC_CPU_SHARES);
        assert_eq!(found, [wanted], "{weight} {asked:?}");
    }
}
