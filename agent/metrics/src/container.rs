//! The families that have series for each cgroup: a table for each subject.

mod counts;
mod cpu;
mod drift;
mod effective;
mod io;
mod memory;
mod network;
mod processes;
mod spec;

use std::sync::Arc;
use std::time::Duration;

use agent_ebpf::Counts;
use agent_host::kept::Directory;
use agent_host::network::Interface;
use agent_host::reading::{Field, Reading};
use agent_model::limit::{Intent, Limit};
pub use effective::set_bounds;
use effective::{BOUNDED, Bound};

use super::catalogue::Metric;
use super::text::{Family, Labels, Value, Writer};

/// A cgroup as far as metrics go.
#[derive(Clone, Debug)]
pub struct Cgroup {
    pub labels: Labels,
    /// Whether it is a container's own, or the root: it has all its series from the start.
    pub is_main: bool,
    pub is_container: bool,
    /// It has been removed, and only what happens rarely is told of it.
    pub is_gone: bool,
    /// What the kernel side counted in it and, of a container, in the cgroups below. None: it counts for the container that
    /// this cgroup is below.
    pub counts: Option<Counts>,
    /// None: it has been removed, or is none.
    pub live: Option<Live>,
    pub reading: Reading,
    /// What its own limits are meant to be, where somebody says so.
    pub intended: Option<Arc<Intent>>,
    /// In the order of the limits that are looked at.
    pub bounds: [Bound; BOUNDED.len()],
    /// By device of the reading.
    pub devices: Vec<Arc<str>>,
    /// Empty where they are another's, or the host's.
    pub interfaces: Vec<Interface>,
}

/// What only a cgroup has that exists.
#[derive(Clone, Debug)]
pub struct Live {
    /// Since the epoch.
    pub start_time: Duration,
    pub last_seen: Duration,
    /// None where they cannot be listed.
    pub processes: Option<u64>,
}

impl Cgroup {
    /// One that has only what was counted in it.
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
            bounds: Default::default(),
            devices: Vec::new(),
            interfaces: Vec::new(),
        }
    }

    fn number(&self, field: Field) -> Option<u64> {
        self.reading.number(field)
    }
}

/// A family, and what writes a cgroup's series of it.
pub struct Source {
    pub metric: &'static Metric,
    write: fn(&Cgroup, &mut Samples<'_, '_>),
}

/// All families, by subject.
pub const SOURCES: &[&[Source]] = &[
    cpu::SOURCES,
    memory::SOURCES,
    processes::SOURCES,
    io::SOURCES,
    network::SOURCES,
    spec::SOURCES,
    effective::SOURCES,
    drift::SOURCES,
    counts::SOURCES,
];

impl Source {
    /// Writes the family, with the series of all `cgroups`.
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

/// How many series a cgroup has, in all families.
pub fn count_series(cgroup: &Cgroup) -> u32 {
    let mut samples = Samples {
        family: None,
        labels: &cgroup.labels,
        count: 0,
    };
    for source in SOURCES.iter().copied().flatten() {
        (source.write)(cgroup, &mut samples);
    }
    samples.count
}

/// A cgroup's series of a family, being written or counted.
struct Samples<'a, 'b> {
    /// None: they are counted only.
    family: Option<&'a mut Family<'b>>,
    labels: &'a Labels,
    count: u32,
}

impl Samples<'_, '_> {
    /// A series with these values of the family's own labels.
    fn push(&mut self, own: &[&str], value: Value) {
        self.count += 1;
        if let Some(family) = &mut self.family {
            family.sample(own, Some(self.labels), value);
        }
    }

    /// The one series, where there is a value.
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

    /// No limit is 0, as cAdvisor has it.
    fn limit(&mut self, limit: Option<Limit>) {
        self.number(limit.map(|limit| match limit {
            Limit::Max => 0,
            Limit::Value(value) => value,
        }));
    }
}

/// A cgroup's directories are beside it while its files are read.
pub type Directories = Vec<Directory>;

#[cfg(test)]
mod tests;
