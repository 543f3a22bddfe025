//! The families that have series for each cgroup. Each submodule has the table of one subject.

mod connections;
mod counts;
mod cpu;
mod disk;
mod drift;
mod effective;
mod io;
mod memory;
mod network;
mod processes;
mod spec;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use agent_ebpf::Counts;
use agent_host::connections::Connections;
use agent_host::filesystems::Filesystem;
use agent_host::kept::Directory;
use agent_host::network::Interface;
use agent_host::reading::{Field, Reading};
use agent_model::limit::{Intent, Limit};
pub use drift::is_drifting;
pub use effective::set_bounds;
use effective::{BOUNDED, Bound};

use super::catalogue::Metric;
use super::groups::MetricGroups;
use super::tasks::Tasks;
use super::text::{Family, Labels, Value, Writer};

/// A cgroup with the values of its series.
#[derive(Clone, Debug)]
pub struct Cgroup {
    pub labels: Labels,
    /// Whether it is a container's own cgroup, the root, or the sum of the unknown cgroups. Such a cgroup has series
    /// for namespace calls even while these are 0.
    pub is_main: bool,
    pub is_container: bool,
    /// Whether the cgroup was removed. Then it has series of rare events only.
    pub is_gone: bool,
    /// The counts of the BPF programs. Those of a container include the cgroups below its own cgroup. `None` for a
    /// cgroup below a container's, whose counts are the container's.
    pub counts: Option<Counts>,
    /// `None` for a removed cgroup, and for the sum of the unknown cgroups.
    pub live: Option<Live>,
    pub reading: Reading,
    /// The intended limits, where a source reports them.
    pub intended: Option<Arc<Intent>>,
    /// The path of the cgroup, if it is the own cgroup of a unit.
    pub unit: Option<String>,
    /// The limits, in the order of `BOUNDED`.
    pub bounds: [Bound; BOUNDED.len()],
    /// The names of the block devices, in the order of the devices in `reading`.
    pub devices: Vec<Arc<str>>,
    /// The network interfaces. Empty where another container or the host owns the network namespace.
    pub interfaces: Vec<Interface>,
    /// The file systems of the host, or the writable layer of a container.
    pub filesystems: Vec<Filesystem>,
    pub on_request: OnRequest,
}

/// The values of families that are off by default.
#[derive(Clone, Debug, Default)]
pub struct OnRequest {
    /// Those of the network namespace, as of [`Cgroup::interfaces`].
    pub connections: Connections,
    /// The init process's limit of open descriptors.
    pub descriptors: Option<Limit>,
}

/// The values that only an existing cgroup has.
#[derive(Clone, Debug)]
pub struct Live {
    /// The time when the cgroup was made, and the time of this scrape, since the epoch.
    pub start_time: Duration,
    pub last_seen: Duration,
    /// `None` where threads cannot be listed.
    pub tasks: Option<Tasks>,
}

impl Cgroup {
    /// Makes a cgroup that has only counts.
    pub fn new(labels: Labels, counts: Counts) -> Self {
        Self {
            labels,
            counts: Some(counts),
            is_main: false,
            is_container: false,
            is_gone: false,
            live: None,
            reading: Reading::default(),
            intended: None,
            unit: None,
            bounds: Default::default(),
            devices: Vec::new(),
            interfaces: Vec::new(),
            filesystems: Vec::new(),
            on_request: OnRequest::default(),
        }
    }

    fn number(&self, field: Field) -> Option<u64> {
        self.reading.number(field)
    }
}

/// A family, and the function that writes its series of a cgroup.
pub struct Source {
    pub metric: &'static Metric,
    write: fn(&Cgroup, &mut Samples<'_, '_>),
}

/// All families, grouped by subject.
const SOURCES: &[&[Source]] = &[
    cpu::SOURCES,
    memory::SOURCES,
    processes::SOURCES,
    tasks::SOURCES,
    io::SOURCES,
    disk::SOURCES,
    network::SOURCES,
    connections::SOURCES,
    spec::SOURCES,
    effective::SOURCES,
    drift::SOURCES,
    counts::SOURCES,
];

/// Returns the families of these groups.
pub fn sources(groups: MetricGroups) -> Vec<&'static Source> {
    let sources = SOURCES.iter().copied().flatten();
    sources.filter(|it| groups.has(it.metric.group)).collect()
}

impl Source {
    /// Writes the family with the series of all `cgroups`.
    pub fn write(&self, cgroups: &[Cgroup], out: &mut Writer) {
        let mut family = out.family(self.metric);
        for cgroup in cgroups {
            let mut samples = Samples {
                family: Some(&mut family),
                labels: &cgroup.labels,
                count: 0,
            };
            (self.write)(cgroup, &mut samples);
        }
    }
}

/// Returns the number of series that a cgroup has in these families.
pub fn count_series(cgroup: &Cgroup, sources: &[&Source]) -> u32 {
    let mut samples = Samples {
        family: None,
        labels: &cgroup.labels,
        count: 0,
    };
    for source in sources {
        (source.write)(cgroup, &mut samples);
    }
    samples.count
}

/// Writes, or only counts, the series of a cgroup.
struct Samples<'a, 'b> {
    /// `None`: the series are only counted.
    family: Option<&'a mut Family<'b>>,
    labels: &'a Labels,
    count: u32,
}

impl Samples<'_, '_> {
    /// Writes a series. `own` has the values of the labels that are not the cgroup's.
    fn push(&mut self, own: &[&str], value: Value) {
        self.count += 1;
        if let Some(family) = &mut self.family {
            family.sample(own, Some(self.labels), value);
        }
    }

    /// Writes the only series of the family, if there is a value.
    fn one(&mut self, value: Option<Value>) {
        if let Some(value) = value {
            self.push(&[], value);
        }
    }

    fn number(&mut self, value: Option<u64>) {
        self.one(value.map(Value::Number));
    }

    fn seconds(&mut self, nanoseconds: Option<u64>) {
        self.one(nanoseconds.map(Value::Seconds));
    }

    /// Writes a limit. As in cAdvisor, 0 means no limit.
    fn limit(&mut self, limit: Option<Limit>) {
        self.number(limit.map(|limit| match limit {
            Limit::Max => 0,
            Limit::Value(value) => value,
        }));
    }
}

/// The directories of a cgroup, one in each hierarchy.
pub type Directories = Vec<Directory>;

#[cfg(test)]
mod tests;
