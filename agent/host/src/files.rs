//! Which files of a cgroup are read: `Documentation/admin-guide/cgroup-v1/` and `cgroup-v2.rst`.

use super::cgroup::Limit;
use super::form::{Form, Row};
use super::hierarchy::{Hierarchies, Mounted, Version};
use super::reading::{Field, Reading};

/// A file of a cgroup.
pub struct CgroupFile {
    pub name: &'static str,
    version: Version,
    /// The controller whose it is. None: v2 has it without one.
    controller: Option<&'static str>,
    pub form: Form,
    /// Whether it says more than what was read before; those before it in [`FILES`] were.
    pub needed: fn(&Reading) -> bool,
    /// Whether what it says changes only when somebody writes to a file beside it.
    pub settled: fn(&Reading) -> bool,
    /// It says nothing new while a field that was read before it is the same. One file of a hierarchy at most.
    pub moves_with: Option<Moves>,
}

/// What a file says, and what it changes with.
pub struct Moves {
    pub with: Field,
    pub fields: &'static [Field],
}

const NANOSECONDS: u64 = 1;
const MICROSECONDS: u64 = 1_000;
/// `USER_HZ` is 100 on every architecture that has BPF.
const TICKS: u64 = 10_000_000;

const fn row(key: &'static str, field: Field, units: u64) -> Row {
    Row { key, field, units }
}

const fn v1(controller: &'static str, name: &'static str, form: Form) -> CgroupFile {
    CgroupFile {
        name,
        version: Version::V1,
        controller: Some(controller),
        settled: if form.is_of_settings() {
            |_| true
        } else {
            |_| false
        },
        form,
        needed: |_| true,
        moves_with: None,
    }
}

const fn v2(controller: Option<&'static str>, name: &'static str, form: Form) -> CgroupFile {
    CgroupFile {
        name,
        version: Version::V2,
        controller,
        settled: if form.is_of_settings() {
            |_| true
        } else {
            |_| false
        },
        form,
        needed: |_| true,
        moves_with: None,
    }
}

impl CgroupFile {
    const fn where_needed(self, needed: fn(&Reading) -> bool) -> Self {
        Self { needed, ..self }
    }

    const fn settled_where(self, settled: fn(&Reading) -> bool) -> Self {
        Self { settled, ..self }
    }

    const fn moving_with(self, with: Field, fields: &'static [Field]) -> Self {
        let moves_with = Some(Moves { with, fields });
        Self { moves_with, ..self }
    }

    /// Whether cgroups of the hierarchy have it.
    pub fn is_in(&self, mounted: &Mounted, hierarchies: &Hierarchies) -> bool {
        if self.version != mounted.version {
            return false;
        }
        let Some(controller) = self.controller else {
            // v1's account of CPU time is the finer one where there are both.
            return self.name != CPU_STAT || hierarchies.of_cpu_usage() == Some(mounted);
        };
        mounted.controllers.iter().any(|name| name == controller)
    }
}

const CPU_STAT: &str = "cpu.stat";

/// The kernel's word for the tightest limit above says whether there can be an own one.
fn has_memory_limit(reading: &Reading) -> bool {
    reading.limit(Field::TreeMemoryLimit) != Some(Limit::Max)
}

fn has_swap_limit(reading: &Reading) -> bool {
    reading.limit(Field::TreeSwapLimit) != Some(Limit::Max)
}

/// Without a quota nothing is throttled, and cAdvisor says nothing of it.
fn has_quota(reading: &Reading) -> bool {
    reading.number(Field::CpuQuota).is_some()
}

/// What nothing limits hits no limit.
fn has_no_memory_limit(reading: &Reading) -> bool {
    !has_memory_limit(reading)
}

fn has_devices(reading: &Reading) -> bool {
    !reading.devices.is_empty()
}

/// All files: what is read each time before what is read seldom, since the first ones are kept open where not all can
/// be. A kept descriptor spares the same whichever file it is of.
pub const FILES: &[CgroupFile] = &[
    v1(
        "memory",
        "memory.usage_in_bytes",
        Form::Number(Field::MemoryUsage, 1),
    ),
    v1(
        "memory",
        "memory.stat",
        Form::Rows(&[
            row("pgfault", Field::Faults, 1),
            row("pgmajfault", Field::MajorFaults, 1),
            row("hierarchical_memory_limit", Field::TreeMemoryLimit, 1),
            row("hierarchical_memsw_limit", Field::TreeSwapLimit, 1),
            row("total_cache", Field::Cache, 1),
            row("total_rss", Field::Rss, 1),
            row("total_mapped_file", Field::MappedFile, 1),
            row("total_swap", Field::Swap, 1),
            row("total_pgfault", Field::TreeFaults, 1),
            row("total_pgmajfault", Field::TreeMajorFaults, 1),
            row("total_inactive_file", Field::InactiveFile, 1),
            row("total_active_file", Field::ActiveFile, 1),
        ]),
    ),
    v1(
        "cpuacct",
        "cpuacct.usage",
        Form::Number(Field::CpuUsage, NANOSECONDS),
    ),
    v1("pids", "pids.current", Form::Number(Field::Threads, 1)),
    v1("cpu", "cpu.cfs_quota_us", Form::Limit(Field::CpuQuota)),
    v1(
        "cpu",
        CPU_STAT,
        Form::Rows(&[
            row("nr_periods", Field::Periods, 1),
            row("nr_throttled", Field::ThrottledPeriods, 1),
            row("throttled_time", Field::ThrottledTime, NANOSECONDS),
        ]),
    )
    .where_needed(has_quota),
    v1(
        "memory",
        "memory.max_usage_in_bytes",
        Form::Number(Field::MaxUsage, 1),
    ),
    v1("memory", "memory.failcnt", Form::Number(Field::Failcnt, 1))
        .settled_where(has_no_memory_limit),
    v1(
        "blkio",
        "blkio.throttle.io_service_bytes_recursive",
        Form::DeviceBytes,
    ),
    v1(
        "blkio",
        "blkio.throttle.io_serviced_recursive",
        Form::DeviceCounts,
    )
    .where_needed(has_devices),
    v1(
        "cpuacct",
        "cpuacct.stat",
        Form::Rows(&[
            row("user", Field::CpuUser, TICKS),
            row("system", Field::CpuSystem, TICKS),
        ]),
    )
    .moving_with(Field::CpuUsage, &[Field::CpuUser, Field::CpuSystem]),
    v1(
        "memory",
        "memory.limit_in_bytes",
        Form::Limit(Field::MemoryLimit),
    )
    .where_needed(has_memory_limit),
    v1(
        "memory",
        "memory.memsw.limit_in_bytes",
        Form::Limit(Field::SwapLimit),
    )
    .where_needed(has_swap_limit),
    v1("pids", "pids.max", Form::Limit(Field::ThreadsMax)),
    v1(
        "memory",
        "memory.soft_limit_in_bytes",
        Form::Limit(Field::Reservation),
    ),
    v1("cpu", "cpu.cfs_period_us", Form::Setting(Field::CpuPeriod)),
    v1("cpu", "cpu.shares", Form::Setting(Field::CpuShares)),
    v2(
        Some("memory"),
        "memory.current",
        Form::Number(Field::MemoryUsage, 1),
    ),
    v2(
        Some("memory"),
        "memory.stat",
        Form::Rows(&[
            row("anon", Field::Rss, 1),
            row("file", Field::Cache, 1),
            row("file_mapped", Field::MappedFile, 1),
            row("inactive_file", Field::InactiveFile, 1),
            row("active_file", Field::ActiveFile, 1),
            row("pgfault", Field::TreeFaults, 1),
            row("pgmajfault", Field::TreeMajorFaults, 1),
        ]),
    ),
    v2(
        None,
        CPU_STAT,
        Form::Rows(&[
            row("usage_usec", Field::CpuUsage, MICROSECONDS),
            row("user_usec", Field::CpuUser, MICROSECONDS),
            row("system_usec", Field::CpuSystem, MICROSECONDS),
            row("nr_periods", Field::Periods, 1),
            row("nr_throttled", Field::ThrottledPeriods, 1),
            row("throttled_usec", Field::ThrottledTime, MICROSECONDS),
        ]),
    ),
    v2(
        Some("pids"),
        "pids.current",
        Form::Number(Field::Threads, 1),
    ),
    v2(Some("io"), "io.stat", Form::IoStat),
    v2(
        Some("memory"),
        "memory.swap.current",
        Form::Number(Field::Swap, 1),
    ),
    v2(
        None,
        "cpu.pressure",
        Form::Pressure(Field::CpuWaiting, Field::CpuStalled),
    ),
    v2(
        None,
        "memory.pressure",
        Form::Pressure(Field::MemoryWaiting, Field::MemoryStalled),
    ),
    v2(
        None,
        "io.pressure",
        Form::Pressure(Field::IoWaiting, Field::IoStalled),
    ),
    v2(
        Some("memory"),
        "memory.events.local",
        Form::Rows(&[row("max", Field::Failcnt, 1)]),
    ),
    v2(
        Some("memory"),
        "memory.peak",
        Form::Number(Field::MaxUsage, 1),
    ),
    v2(
        Some("memory"),
        "memory.max",
        Form::Limit(Field::MemoryLimit),
    ),
    v2(Some("cpu"), "cpu.max", Form::CpuMax),
    v2(Some("pids"), "pids.max", Form::Limit(Field::ThreadsMax)),
    v2(
        Some("memory"),
        "memory.swap.max",
        Form::Limit(Field::SwapLimit),
    ),
    v2(
        Some("memory"),
        "memory.high",
        Form::Limit(Field::Reservation),
    ),
    v2(Some("cpu"), "cpu.weight", Form::CpuWeight),
];
