//! The groups of families that `--enable-metrics` and `--disable-metrics` switch. They have cAdvisor's names, where it
//! has such a group.

/// A group of families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MetricGroup {
    /// Families that are always there: they cost nothing, or another family is of no use without them.
    #[value(skip)]
    Always,
    Cpu,
    #[value(name = "percpu")]
    PerCpu,
    #[value(name = "cpuLoad")]
    CpuLoad,
    Memory,
    #[value(name = "oom_event")]
    OomEvent,
    Process,
    #[value(name = "diskIO")]
    DiskIo,
    Disk,
    #[value(name = "disk_usage")]
    DiskUsage,
    Network,
    Tcp,
    Udp,
    Pressure,
    Sandbox,
}

/// A row of the table of groups.
pub struct GroupRow {
    pub group: MetricGroup,
    pub name: &'static str,
    /// Whether it is on without a flag.
    pub is_on: bool,
    /// What it has.
    pub what: &'static str,
    /// What it costs at each scrape.
    pub cost: &'static str,
}

const fn row(
    (group, name, is_on): (MetricGroup, &'static str, bool),
    what: &'static str,
    cost: &'static str,
) -> GroupRow {
    GroupRow {
        group,
        name,
        is_on,
        what,
        cost,
    }
}

const SERIES: &str = "its series";

/// The groups that can be switched.
pub const GROUPS: [GroupRow; 14] = [
    row(
        (MetricGroup::Cpu, "cpu", true),
        "CPU time and throttling",
        SERIES,
    ),
    row(
        (MetricGroup::PerCpu, "percpu", false),
        "`container_cpu_usage_seconds_total` for each CPU (`cpu00`) instead of `total`; v1 only, as the kernel does not \
         report it on v2",
        "one file of each cgroup, 1 µs and 0.1 µs for each CPU, and a series for each CPU that was used",
    ),
    row(
        (MetricGroup::CpuLoad, "cpuLoad", true),
        "threads by state, and load averages",
        "nothing at a scrape, which lists all threads anyway; every 5 s another list, 1 µs for each thread of the host",
    ),
    row((MetricGroup::Memory, "memory", true), "memory", SERIES),
    row(
        (MetricGroup::OomEvent, "oom_event", true),
        "OOM kills by their victims",
        SERIES,
    ),
    row(
        (MetricGroup::Process, "process", false),
        "open descriptors, sockets, and the init process's limit of them",
        "2 µs for each open descriptor of the host",
    ),
    row((MetricGroup::DiskIo, "diskIO", true), "block I/O", SERIES),
    row(
        (MetricGroup::Disk, "disk", true),
        "space and inodes of the host's own file systems, with `id=\"/\"`",
        "5 µs for each file system, 64 at most",
    ),
    row(
        (MetricGroup::DiskUsage, "disk_usage", false),
        "space and inodes that the writable layers of root's containers take, in the families of `disk`; layers of \
         overlayfs only, with at most 1,000,000 entries each",
        "nothing at a scrape; a thread of the lowest priority looks at every file of every layer, a minute after it last \
         did, 100,000 files a second at most",
    ),
    row(
        (MetricGroup::Network, "network", true),
        "traffic of network interfaces",
        "20 µs for each network namespace",
    ),
    row(
        (MetricGroup::Tcp, "tcp", false),
        "TCP connections by state",
        "20 µs for each network namespace, and 1 µs for each connection in it",
    ),
    row(
        (MetricGroup::Udp, "udp", false),
        "UDP sockets, their queues and drops",
        "20 µs for each network namespace, and 1 µs for each socket in it",
    ),
    row(
        (MetricGroup::Pressure, "pressure", true),
        "pressure stall information (PSI); v2 only",
        SERIES,
    ),
    row(
        (MetricGroup::Sandbox, "sandbox", false),
        "processes, threads by state, times and network traffic of each sandbox, with `id=\"sandbox-…\"`, its name in \
         all commands",
        "another list of all processes, 2 µs each",
    ),
];

/// The groups that are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricGroups([bool; GROUPS.len()]);

impl Default for MetricGroups {
    fn default() -> Self {
        Self(GROUPS.each_ref().map(|row| row.is_on))
    }
}

impl MetricGroups {
    /// Returns the groups that are on by default, with those of `on`, and without those of `off`.
    pub fn new(on: &[MetricGroup], off: &[MetricGroup]) -> Self {
        Self(GROUPS.each_ref().map(|row| {
            let is_on = row.is_on || on.contains(&row.group);
            is_on && !off.contains(&row.group)
        }))
    }

    pub fn has(&self, group: MetricGroup) -> bool {
        let row = GROUPS.iter().position(|row| row.group == group);
        row.is_none_or(|at| self.0[at])
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn each_group_has_a_row_with_the_name_of_its_value() {
        let names: Vec<_> = GROUPS.iter().map(|row| row.name.to_owned()).collect();
        let values = MetricGroup::value_variants().iter();
        let values = values.map(|it| it.to_possible_value().unwrap().get_name().to_owned());
        assert_eq!(values.collect::<Vec<_>>(), names);
        for row in &GROUPS {
            let value = row.group.to_possible_value();
            assert_eq!(value.unwrap().get_name(), row.name);
        }
    }

    #[test]
    fn flags_change_the_default() {
        let on = [MetricGroup::PerCpu, MetricGroup::Tcp, MetricGroup::Udp];
        let groups = MetricGroups::new(&on, &[MetricGroup::Pressure, MetricGroup::Udp]);
        let changed: Vec<_> = GROUPS
            .iter()
            .filter(|row| groups.has(row.group) != row.is_on)
            .map(|row| row.name)
            .collect();
        assert_eq!(changed, ["percpu", "tcp", "pressure"]);
        assert!(groups.has(MetricGroup::Always));
    }
}
