//! The families that have a series for each cgroup, and those of the host.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_ebpf::{CONSTRAINTS, Call, Constraint, Counts, NamespaceType};

use super::catalogue::{self, Metric};
use super::text::{Labels, Value, Writer};
use crate::host;
use crate::host::cgroup::{Directory, Limit, Memory};

/// A cgroup as far as metrics go.
#[derive(Clone, Debug)]
pub struct Cgroup {
    pub labels: Labels,
    /// What the kernel side counted in it.
    pub counts: Counts,
    /// Kills by the OOM killer of processes in this very cgroup, since it was made.
    pub oom_kills: u64,
    /// None: it has been removed, and only what happened in it is left.
    pub live: Option<Live>,
}

/// What only a cgroup has that exists.
#[derive(Clone, Debug)]
pub struct Live {
    pub directories: Directories,
    pub start_time: SystemTime,
}

/// Where a cgroup's numbers are. None: it is not in that hierarchy.
#[derive(Clone, Debug, Default)]
pub struct Directories {
    /// In [`Hierarchies::of_cpu_usage`](host::hierarchy::Hierarchies::of_cpu_usage).
    pub cpu: Option<Directory>,
    /// In the hierarchy of the controller `memory`.
    pub memory: Option<Directory>,
}

/// What happened on the host, whatever became of the cgroups.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostCounts {
    /// By [`Constraint`].
    pub oom_kills: [u64; CONSTRAINTS],
}

/// Files of cgroups that could not be read, those of cgroups removed meanwhile excepted.
#[derive(Debug, Default)]
#[must_use]
pub struct ReadErrors {
    pub count: u64,
    /// One for the log.
    pub first: Option<host::Error>,
}

/// Reads the files of all live cgroups, then writes all families. A cgroup that is removed
/// meanwhile, or lacks a controller, has no series in the families that are read from there.
pub fn write<Sink: FnMut(String)>(
    cgroups: &[Cgroup],
    host: &HostCounts,
    now: SystemTime,
    out: &mut Writer<Sink>,
) -> ReadErrors {
    let mut errors = ReadErrors::default();
    let read = |cgroup: &Cgroup| Reading::of(cgroup, now, &mut errors);
    let readings: Vec<_> = cgroups.iter().map(read).collect();
    for (metric, own, value) in READ {
        let mut family = out.family(metric);
        for (cgroup, reading) in cgroups.iter().zip(&readings) {
            if let Some(value) = value(reading) {
                family.sample(own, Some(&cgroup.labels), value);
            }
        }
    }
    write_counts(cgroups, out);
    write_host(host, out);
    errors
}

/// What is read of a live cgroup.
#[derive(Default)]
struct Reading {
    cpu_usage: Option<Duration>,
    memory: Option<Memory>,
    start_time: Option<Duration>,
    last_seen: Option<Duration>,
}

impl Reading {
    fn of(cgroup: &Cgroup, now: SystemTime, errors: &mut ReadErrors) -> Self {
        let Some(Live {
            directories,
            start_time,
        }) = &cgroup.live
        else {
            return Self::default();
        };
        let cpu = directories.cpu.as_ref();
        let memory = directories.memory.as_ref();
        Self {
            cpu_usage: cpu.and_then(|cpu| errors.keep(cpu.cpu_usage())),
            memory: memory.and_then(|memory| errors.keep(memory.memory())),
            start_time: Some(since_epoch(*start_time)),
            last_seen: Some(since_epoch(now)),
        }
    }
}

impl ReadErrors {
    fn keep<T>(&mut self, read: Result<T, host::Error>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(host::Error::Gone { .. }) => None,
            Err(error) => {
                self.count += 1;
                self.first.get_or_insert(error);
                None
            }
        }
    }
}

/// A family, the values of its own labels, and where its value is.
type Read = (
    &'static Metric,
    &'static [&'static str],
    fn(&Reading) -> Option<Value>,
);

const READ: [Read; 6] = [
    (&catalogue::CPU_USAGE, &["total"], |r| {
        r.cpu_usage.map(Value::Seconds)
    }),
    (&catalogue::MEMORY_USAGE, &[], |r| {
        r.memory.map(|m| Value::Number(m.usage))
    }),
    (&catalogue::MEMORY_WORKING_SET, &[], |r| {
        r.memory.map(|m| Value::Number(m.working_set))
    }),
    (&catalogue::MEMORY_LIMIT, &[], |r| {
        r.memory.map(|m| limit(m.limit))
    }),
    (&catalogue::START_TIME, &[], |r| {
        r.start_time.map(Value::Seconds)
    }),
    (&catalogue::LAST_SEEN, &[], |r| {
        r.last_seen.map(Value::Seconds)
    }),
];

/// No limit is 0, as cAdvisor has it.
fn limit(limit: Limit) -> Value {
    match limit {
        Limit::Max => Value::Number(0),
        Limit::Value(bytes) => Value::Number(bytes),
    }
}

/// A time before the epoch, as a clock that is not set gives, is the epoch.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What was counted, of the dead too. Every series is there from the start, at 0.
fn write_counts<Sink: FnMut(String)>(cgroups: &[Cgroup], out: &mut Writer<Sink>) {
    let mut family = out.family(&catalogue::OOM_EVENTS);
    for Cgroup {
        labels, oom_kills, ..
    } in cgroups
    {
        family.sample(&[], Some(labels), Value::Number(*oom_kills));
    }
    let mut family = out.family(&catalogue::OOM_KILLS);
    for Cgroup {
        labels,
        counts,
        oom_kills,
        ..
    } in cgroups
    {
        family.sample(&["victim"], Some(labels), Value::Number(*oom_kills));
        let limit_kills = Value::Number(counts.oom_limit_kills);
        family.sample(&["limit_owner"], Some(labels), limit_kills);
    }
    let mut family = out.family(&catalogue::NAMESPACE_CALLS);
    for Cgroup { labels, counts, .. } in cgroups {
        for (call, by_type) in Call::ALL.iter().zip(&counts.calls) {
            for (asked, &count) in NamespaceType::ALL.iter().zip(by_type) {
                let own = [call.name(), asked.name()];
                family.sample(&own, Some(labels), Value::Number(count));
            }
        }
    }
    let mut family = out.family(&catalogue::NAMESPACE_CALL_ERRORS);
    for Cgroup { labels, counts, .. } in cgroups {
        for (call, &count) in Call::ALL.iter().zip(&counts.failed) {
            family.sample(&[call.name()], Some(labels), Value::Number(count));
        }
    }
}

fn write_host<Sink: FnMut(String)>(host: &HostCounts, out: &mut Writer<Sink>) {
    let mut family = out.family(&catalogue::HOST_OOM_KILLS);
    for (constraint, &count) in Constraint::ALL.iter().zip(&host.oom_kills) {
        family.sample(&[constraint.name()], None, Value::Number(count));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::fixture::{add, tree};
    use crate::host::hierarchy::Version;

    const FILES: [(&str, &str); 9] = [
        ("memory/a/memory.usage_in_bytes", "3000\n"),
        ("memory/a/memory.limit_in_bytes", "9223372036854771712\n"),
        (
            "memory/a/memory.stat",
            "inactive_file 1\ntotal_inactive_file 1000\n",
        ),
        ("cpuacct/a/cpuacct.usage", "1500000001\n"),
        ("unified/b/memory.current", "500\n"),
        ("unified/b/memory.max", "4096\n"),
        ("unified/b/memory.stat", "inactive_file 600\n"),
        ("unified/b/cpu.stat", "usage_usec 250000\nuser_usec 1\n"),
        ("unified/c/cpu.stat", "usage_usec 7000000\n"),
    ];

    fn directory(root: &Path, version: Version, path: &str) -> Option<Directory> {
        Some(Directory {
            version,
            path: root.join(path),
            meminfo: None,
        })
    }

    fn live(cpu: Option<Directory>, memory: Option<Directory>) -> Option<Live> {
        Some(Live {
            directories: Directories { cpu, memory },
            start_time: UNIX_EPOCH + Duration::new(1_700_000_000, 250_000_000),
        })
    }

    fn cgroup(id: &str, live: Option<Live>) -> Cgroup {
        Cgroup {
            labels: Labels::new(id, "", ""),
            counts: Counts::default(),
            oom_kills: 0,
            live,
        }
    }

    /// One of v1, two of v2, the last of them without the memory controller.
    fn three(root: &Path) -> [Cgroup; 3] {
        let at = |version, path| directory(root, version, path);
        let [a, b, c] = [
            live(at(Version::V1, "cpuacct/a"), at(Version::V1, "memory/a")),
            live(at(Version::V2, "unified/b"), at(Version::V2, "unified/b")),
            live(at(Version::V2, "unified/c"), at(Version::V2, "unified/c")),
        ];
        [cgroup("/a", a), cgroup("/b", b), cgroup("/c", c)]
    }

    fn written(cgroups: &[Cgroup], host: &HostCounts) -> (String, ReadErrors) {
        let mut text = String::new();
        let mut out = Writer::new(|chunk: String| text += &chunk);
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let errors = write(cgroups, host, now, &mut out);
        out.finish();
        (text, errors)
    }

    /// The samples of a family, without its name.
    fn samples<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        let samples = text.lines().filter_map(|line| line.strip_prefix(name));
        samples
            .filter(|rest| rest.starts_with(['{', ' ']))
            .collect()
    }

    #[test]
    fn read_families() {
        let root = tree(&FILES);
        let (text, errors) = written(&three(root.path()), &HostCounts::default());
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        let wanted = r#"# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed in seconds.
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{cpu="total",id="/a",image="",name=""} 1.500000001
container_cpu_usage_seconds_total{cpu="total",id="/b",image="",name=""} 0.25
container_cpu_usage_seconds_total{cpu="total",id="/c",image="",name=""} 7
# HELP container_memory_usage_bytes Current memory usage in bytes, including all memory regardless of when it was accessed
# TYPE container_memory_usage_bytes gauge
container_memory_usage_bytes{id="/a",image="",name=""} 3000
container_memory_usage_bytes{id="/b",image="",name=""} 500
# HELP container_memory_working_set_bytes Current working set in bytes.
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{id="/a",image="",name=""} 2000
container_memory_working_set_bytes{id="/b",image="",name=""} 0
# HELP container_spec_memory_limit_bytes Memory limit for the container.
# TYPE container_spec_memory_limit_bytes gauge
container_spec_memory_limit_bytes{id="/a",image="",name=""} 0
container_spec_memory_limit_bytes{id="/b",image="",name=""} 4096
# HELP container_start_time_seconds Start time of the container since unix epoch in seconds.
# TYPE container_start_time_seconds gauge
container_start_time_seconds{id="/a",image="",name=""} 1700000000.25
container_start_time_seconds{id="/b",image="",name=""} 1700000000.25
container_start_time_seconds{id="/c",image="",name=""} 1700000000.25
# HELP container_last_seen Last time a container was seen by the exporter
# TYPE container_last_seen gauge
container_last_seen{id="/a",image="",name=""} 1800000000
container_last_seen{id="/b",image="",name=""} 1800000000
container_last_seen{id="/c",image="",name=""} 1800000000
# HELP container_oom_events_total Count of out of memory events observed for the container
"#;
        assert_eq!(&text[..wanted.len()], wanted);
    }

    #[test]
    fn a_dead_cgroup_has_what_happened_in_it() {
        let mut dead = cgroup("/dead", None);
        dead.oom_kills = 2;
        dead.counts.oom_limit_kills = 3;
        dead.counts.calls[Call::Unshare as usize][NamespaceType::Net as usize] = 5;
        dead.counts.failed[Call::Setns as usize] = 1;
        let mut host = HostCounts::default();
        host.oom_kills[Constraint::Memcg as usize] = 9;
        let (text, errors) = written(&[dead], &host);
        assert_eq!(errors.count, 0);
        for (metric, _, _) in READ {
            assert_eq!(samples(&text, metric.name), [""; 0], "{}", metric.name);
        }
        let rest = &text[text.find("# HELP container_oom_events_total").unwrap()..];
        let mut wanted = String::from(
            r#"# HELP container_oom_events_total Count of out of memory events observed for the container
# TYPE container_oom_events_total counter
container_oom_events_total{id="/dead",image="",name=""} 2
# HELP container_oom_kills_total Kills by the OOM killer of processes in this very cgroup (victim), and in it or below it because its memory limit was hit (limit_owner).
# TYPE container_oom_kills_total counter
container_oom_kills_total{role="victim",id="/dead",image="",name=""} 2
container_oom_kills_total{role="limit_owner",id="/dead",image="",name=""} 3
# HELP container_namespace_calls_total Calls of clone, unshare and setns by each type of namespace asked for: a call that asks for two types counts in both, and a setns that asks for none in the one that it changed.
# TYPE container_namespace_calls_total counter
"#,
        );
        for call in ["clone", "unshare", "setns"] {
            for asked in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
                let count = if (call, asked) == ("unshare", "net") {
                    5
                } else {
                    0
                };
                wanted += &format!(
                    "container_namespace_calls_total{{call=\"{call}\",type=\"{asked}\",id=\"/dead\",image=\"\",name=\"\"}} {count}\n"
                );
            }
        }
        wanted += r#"# HELP container_namespace_call_errors_total Calls of clone, unshare and setns for namespaces that failed, as far as the probe's mechanism sees failures.
# TYPE container_namespace_call_errors_total counter
container_namespace_call_errors_total{call="clone",id="/dead",image="",name=""} 0
container_namespace_call_errors_total{call="unshare",id="/dead",image="",name=""} 0
container_namespace_call_errors_total{call="setns",id="/dead",image="",name=""} 1
# HELP machine_oom_kills_total Kills by the OOM killer on the host, by what was short: the limit of a memory cgroup (memcg), the host's memory (none), or that of a cpuset or a memory policy.
# TYPE machine_oom_kills_total counter
machine_oom_kills_total{constraint="none"} 0
machine_oom_kills_total{constraint="cpuset"} 0
machine_oom_kills_total{constraint="mempolicy"} 0
machine_oom_kills_total{constraint="memcg"} 9
"#;
        assert_eq!(rest, wanted);
    }

    #[test]
    fn a_cgroup_removed_meanwhile_is_no_error() {
        let root = tree(&FILES);
        let cgroups = three(root.path());
        std::fs::remove_dir_all(root.path().join("unified/b")).unwrap();
        let (text, errors) = written(&cgroups, &HostCounts::default());
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        let usage = samples(&text, catalogue::MEMORY_USAGE.name);
        assert_eq!(usage, [r#"{id="/a",image="",name=""} 3000"#]);
        assert_eq!(samples(&text, catalogue::OOM_EVENTS.name).len(), 3);
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_left_out() {
        let root = tree(&FILES);
        add(
            root.path(),
            &[
                ("memory/a/memory.stat", "gibberish"),
                ("unified/c/cpu.stat", ""),
            ],
        );
        let (text, errors) = written(&three(root.path()), &HostCounts::default());
        assert_eq!(errors.count, 2);
        let first = errors.first.unwrap().to_string();
        assert!(
            first.contains("memory/a/memory.stat: found \"gibberish\""),
            "{first}"
        );
        let usage = samples(&text, catalogue::MEMORY_USAGE.name);
        assert_eq!(usage, [r#"{id="/b",image="",name=""} 500"#]);
        assert_eq!(samples(&text, catalogue::CPU_USAGE.name).len(), 2);
        assert_eq!(samples(&text, catalogue::LAST_SEEN.name).len(), 3);
    }
}
