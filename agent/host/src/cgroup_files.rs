//! The table of cgroup files: `Documentation/admin-guide/cgroup-v1/` and `cgroup-v2.rst` of the kernel. Each row says
//! what a file is called on its version, what its text is, which limit it holds, and which numbers of metrics it has.
//! [`cgroup_format`](super::cgroup_format) reads all of them; what is written to them is here.

use agent_model::hierarchy::Version;
use agent_model::limit::weight::{Scale, shares_of_weight, weight_of_shares};
use agent_model::limit::{Held, Kind, Limit, Value};

use super::cgroup_format::{Format, Row, Unit};
use super::hierarchy::{Hierarchies, Mounted};
use super::reading::{Field, Reading};

/// A file of a cgroup.
pub struct CgroupFile {
    pub version: Version,
    /// None: v2 has it without one.
    pub controller: Option<&'static str>,
    pub name: &'static str,
    pub format: Format,
    pub unit: Unit,
    /// The limits that it holds, or a part of. They change only where somebody writes to the file.
    pub limits: &'static [Kind],
    /// The numbers that metrics are made of. Of [`Format::Rows`] here stand those that may be remembered.
    pub fields: &'static [Field],
    /// The file that says what holds of what was asked for here, which may be less.
    pub in_effect: Option<&'static str>,
    /// Whether it says more than what was read before; those before it in [`FILES`] were.
    pub needed: fn(&Reading) -> bool,
    /// Whether a limit written beside it is all that can change what it says.
    pub settled: fn(&Reading) -> bool,
    /// It says nothing new while this field that was read before it is the same. One file of a hierarchy at most.
    pub moves_with: Option<Field>,
}

use Format::*;
use Unit::*;

const fn row(key: &'static str, field: Field, unit: Unit) -> Row {
    Row {
        key,
        field,
        unit,
        tightest: None,
    }
}

const fn tightest(key: &'static str, field: Field, limit: Kind) -> Row {
    Row {
        tightest: Some(limit),
        ..row(key, field, Bytes)
    }
}

/// v1's `memory.stat`.
const MEMORY_STAT_V1: &[Row] = &[
    row("pgfault", Field::Faults, Count),
    row("pgmajfault", Field::MajorFaults, Count),
    tightest(
        "hierarchical_memory_limit",
        Field::TreeMemoryLimit,
        Kind::Memory,
    ),
    tightest(
        "hierarchical_memsw_limit",
        Field::TreeSwapLimit,
        Kind::MemorySwap,
    ),
    row("total_cache", Field::Cache, Bytes),
    row("total_rss", Field::Rss, Bytes),
    row("total_mapped_file", Field::MappedFile, Bytes),
    row("total_swap", Field::Swap, Bytes),
    row("total_pgfault", Field::TreeFaults, Count),
    row("total_pgmajfault", Field::TreeMajorFaults, Count),
    row("total_inactive_file", Field::InactiveFile, Bytes),
    row("total_active_file", Field::ActiveFile, Bytes),
];

/// v2's.
const MEMORY_STAT_V2: &[Row] = &[
    row("anon", Field::Rss, Bytes),
    row("file", Field::Cache, Bytes),
    row("file_mapped", Field::MappedFile, Bytes),
    row("inactive_file", Field::InactiveFile, Bytes),
    row("active_file", Field::ActiveFile, Bytes),
    row("pgfault", Field::TreeFaults, Count),
    row("pgmajfault", Field::TreeMajorFaults, Count),
];

/// v1's `cpu.stat`.
const CPU_STAT_V1: &[Row] = &[
    row("nr_periods", Field::Periods, Count),
    row("nr_throttled", Field::ThrottledPeriods, Count),
    row("throttled_time", Field::ThrottledTime, Nanoseconds),
];

/// v2's.
const CPU_STAT_V2: &[Row] = &[
    row("usage_usec", Field::CpuUsage, Microseconds),
    row("user_usec", Field::CpuUser, Microseconds),
    row("system_usec", Field::CpuSystem, Microseconds),
    row("nr_periods", Field::Periods, Count),
    row("nr_throttled", Field::ThrottledPeriods, Count),
    row("throttled_usec", Field::ThrottledTime, Microseconds),
];

const CPUACCT_STAT: &[Row] = &[
    row("user", Field::CpuUser, Ticks),
    row("system", Field::CpuSystem, Ticks),
];

const LIMIT_HITS: &[Row] = &[row("max", Field::Failcnt, Count)];

/// No controller.
const ANY: &str = "";

const fn file(
    (version, controller, name): (Version, &'static str, &'static str),
    (format, unit): (Format, Unit),
    limits: &'static [Kind],
    fields: &'static [Field],
) -> CgroupFile {
    CgroupFile {
        version,
        controller: match controller.is_empty() {
            true => None,
            false => Some(controller),
        },
        name,
        format,
        unit,
        limits,
        fields,
        in_effect: None,
        needed: |_| true,
        settled: match limits.is_empty() {
            true => |_| false,
            false => |_| true,
        },
        moves_with: None,
    }
}

/// `VERSION CONTROLLER FILE: FORMAT UNIT [LIMITS] [FIELDS];`, and what else is to be said of it.
macro_rules! files {
    ($($version:ident $controller:tt $name:literal: $format:tt $unit:ident [$($limit:ident)*] [$($field:ident)*]
        $($more:ident($value:expr))*;)*) => {
        &[$(CgroupFile {
            $($more: $value,)*
            ..file(
                (Version::$version, $controller, $name),
                ($format, $unit),
                &[$(Kind::$limit),*],
                &[$(Field::$field),*],
            )
        }),*]
    };
}

/// All files: what is read each time before what is read seldom, since the first ones are kept open where not all can
/// be. A kept descriptor spares the same whichever file it is of. Of two files of a limit, the second is to be written
/// first: a quota is of the period that is there.
pub const FILES: &[CgroupFile] = files! {
    V1 "memory" "memory.usage_in_bytes": Number Bytes [] [MemoryUsage];
    V1 "memory" "memory.stat": (Rows(MEMORY_STAT_V1)) Bytes [] [];
    V1 "cpuacct" "cpuacct.usage": Number Nanoseconds [] [CpuUsage];
    V1 "pids" "pids.current": Number Count [] [Threads];
    V1 "cpu" "cpu.cfs_quota_us": Limit Microseconds [CpuQuota] [CpuQuota];
    V1 "cpu" "cpu.stat": (Rows(CPU_STAT_V1)) Count [] [] needed(has_quota);
    V1 "memory" "memory.max_usage_in_bytes": Number Bytes [] [MaxUsage];
    V1 "memory" "memory.failcnt": Number Count [] [Failcnt] settled(has_no_memory_limit);
    V1 "blkio" "blkio.throttle.io_service_bytes_recursive": DeviceOperations Bytes [] [];
    V1 "blkio" "blkio.throttle.io_serviced_recursive": DeviceOperations Count [] [] needed(has_devices);
    V1 "cpuacct" "cpuacct.stat": (Rows(CPUACCT_STAT)) Ticks [] [CpuUser CpuSystem] moves_with(Some(Field::CpuUsage));
    V1 "memory" "memory.limit_in_bytes": Limit Bytes [Memory] [MemoryLimit] needed(has_memory_limit);
    V1 "memory" "memory.memsw.limit_in_bytes": Limit Bytes [MemorySwap] [SwapLimit] needed(has_swap_limit);
    V1 "pids" "pids.max": Limit Count [Pids] [ThreadsMax];
    V1 "memory" "memory.soft_limit_in_bytes": Limit Bytes [MemoryReservation] [Reservation];
    V1 "cpu" "cpu.cfs_period_us": Number Microseconds [CpuQuota] [CpuPeriod];
    V1 "cpu" "cpu.shares": Number Shares [CpuWeight] [CpuShares];
    V2 "memory" "memory.current": Number Bytes [] [MemoryUsage];
    V2 "memory" "memory.stat": (Rows(MEMORY_STAT_V2)) Bytes [] [];
    V2 ANY "cpu.stat": (Rows(CPU_STAT_V2)) Count [] [];
    V2 "pids" "pids.current": Number Count [] [Threads];
    V2 "io" "io.stat": DeviceStat Count [] [];
    V2 "memory" "memory.swap.current": Number Bytes [] [Swap];
    V2 ANY "cpu.pressure": Pressure Microseconds [] [CpuWaiting CpuStalled];
    V2 ANY "memory.pressure": Pressure Microseconds [] [MemoryWaiting MemoryStalled];
    V2 ANY "io.pressure": Pressure Microseconds [] [IoWaiting IoStalled];
    V2 "memory" "memory.events.local": (Rows(LIMIT_HITS)) Count [] [];
    V2 "memory" "memory.peak": Number Bytes [] [MaxUsage];
    V2 "memory" "memory.max": Limit Bytes [Memory] [MemoryLimit];
    V2 "cpu" "cpu.max": QuotaAndPeriod Microseconds [CpuQuota] [CpuQuota CpuPeriod];
    V2 "pids" "pids.max": Limit Count [Pids] [ThreadsMax];
    V2 "memory" "memory.swap.max": Limit Bytes [MemorySwap] [SwapLimit];
    // cAdvisor calls it the reservation; what protects memory is memory.low.
    V2 "memory" "memory.high": Limit Bytes [MemoryHigh] [Reservation];
    V2 "cpu" "cpu.weight": Number Weight [CpuWeight] [CpuWeight];
    // Of these there are no metrics.
    V2 "memory" "memory.low": Limit Bytes [MemoryReservation] [];
    V1 "cpuset" "cpuset.cpus": Numbers Count [CpusetCpus] [] in_effect(Some("cpuset.effective_cpus"));
    V2 "cpuset" "cpuset.cpus": Numbers Count [CpusetCpus] [] in_effect(Some("cpuset.cpus.effective"));
    V1 "cpuset" "cpuset.mems": Numbers Count [CpusetMems] [] in_effect(Some("cpuset.effective_mems"));
    V2 "cpuset" "cpuset.mems": Numbers Count [CpusetMems] [] in_effect(Some("cpuset.mems.effective"));
    V1 "blkio" "blkio.throttle.read_bps_device": DeviceRate PerSecond [ReadBps] [];
    V1 "blkio" "blkio.throttle.write_bps_device": DeviceRate PerSecond [WriteBps] [];
    V1 "blkio" "blkio.throttle.read_iops_device": DeviceRate PerSecond [ReadIops] [];
    V1 "blkio" "blkio.throttle.write_iops_device": DeviceRate PerSecond [WriteIops] [];
    V2 "io" "io.max": DeviceRates PerSecond [ReadBps WriteBps ReadIops WriteIops] [];
};

/// The kernel says of the tightest limit above whether there can be one of the cgroup's own.
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

impl CgroupFile {
    /// Whether cgroups of the hierarchy have it.
    pub fn is_in(&self, mounted: &Mounted, hierarchies: &Hierarchies) -> bool {
        if self.version != mounted.version {
            return false;
        }
        let Some(controller) = self.controller else {
            // v1's account of CPU time is the finer one where there are both.
            return self.name != "cpu.stat" || hierarchies.of_cpu_usage() == Some(mounted);
        };
        mounted.controllers.iter().any(|name| name == controller)
    }

    /// Whether it holds limits.
    pub const fn is_of_settings(&self) -> bool {
        !self.limits.is_empty()
    }

    /// Whether metrics are made of it.
    pub const fn has_metrics(&self) -> bool {
        !self.is_of_settings() || !self.fields.is_empty()
    }

    /// What is written to it for this value of a limit; None where it is no value of what the file holds.
    pub fn write(&self, kind: Kind, value: &Value) -> Option<String> {
        Some(match (self.format, self.unit, value) {
            (Format::Limit, Unit::Bytes | Unit::Count, Value::Amount(limit))
            | (Format::Limit, Unit::Microseconds, Value::Quota { quota: limit, .. }) => {
                self.limit_text(*limit)
            }
            (Format::Limit, Unit::Bytes, Value::Swap { memory, both, .. }) => {
                match (self.version, both) {
                    (Version::V2, Limit::Value(both)) => both.saturating_sub(*memory).to_string(),
                    (_, both) => self.limit_text(*both),
                }
            }
            (Format::Number, Unit::Microseconds, Value::Quota { period, .. }) => period.to_string(),
            (Format::QuotaAndPeriod, _, Value::Quota { quota, period }) => {
                format!("{quota} {period}")
            }
            (Format::Number, Unit::Shares, Value::Shares(number))
            | (Format::Number, Unit::Weight, Value::Weight(number)) => number.to_string(),
            (Format::Number, Unit::Shares, Value::Weight(weight)) => {
                shares_of_weight(*weight, Scale::Curve).to_string()
            }
            (Format::Number, Unit::Weight, Value::Shares(shares)) => {
                weight_of_shares(*shares, Scale::Curve).to_string()
            }
            (Format::Numbers, _, Value::Numbers(numbers)) => numbers.to_string(),
            (Format::DeviceRate, _, Value::Rate { device, limit }) => match limit {
                Limit::Max => format!("{device} 0"),
                Limit::Value(rate) => format!("{device} {rate}"),
            },
            (Format::DeviceRates, _, Value::Rate { device, limit }) => {
                format!("{device} {}={limit}", rate_key(kind))
            }
            _ => return None,
        })
    }

    /// v1's counter of tasks alone has v2's text for no limit.
    fn limit_text(&self, limit: Limit) -> String {
        match (limit, self.version, self.unit) {
            (Limit::Max, Version::V1, Unit::Bytes | Unit::Microseconds) => "-1".to_owned(),
            (limit, ..) => limit.to_string(),
        }
    }

    /// What the kernel keeps of what was written: it rounds bytes down to whole pages.
    pub fn kept(&self, written: Held, page: u64) -> Held {
        match (self.unit, written) {
            (Unit::Bytes, Held::Amount(Limit::Value(bytes))) => {
                Held::Amount(Limit::Value(bytes - bytes % page))
            }
            (_, written) => written,
        }
    }

    /// All fields that it may fill.
    pub fn all_fields(&self) -> Vec<Field> {
        match self.format {
            Rows(rows) => rows.iter().map(|row| row.field).collect(),
            _ => self.fields.to_vec(),
        }
    }

    fn rows(&self) -> &'static [Row] {
        match self.format {
            Rows(rows) => rows,
            _ => &[],
        }
    }
}

/// Of what is limited in v2's file of rates.
pub(super) const fn rate_key(kind: Kind) -> &'static str {
    match kind {
        Kind::ReadBps => "rbps",
        Kind::WriteBps => "wbps",
        Kind::ReadIops => "riops",
        _ => "wiops",
    }
}

/// The files that hold a limit; none where this version cannot limit it.
pub fn files_of(
    limit: Kind,
    version: Version,
) -> impl DoubleEndedIterator<Item = &'static CgroupFile> + Clone {
    let holds = move |file: &&CgroupFile| file.version == version && file.limits.contains(&limit);
    FILES.iter().filter(holds)
}

/// The limits that a file of this name holds.
pub fn limits_of(name: &str, version: Version) -> &'static [Kind] {
    let mut files = FILES.iter();
    let file = files.find(|file| file.version == version && file.name == name);
    file.map_or(&[], |file| file.limits)
}

/// The file that says which limit is the tightest of the cgroup and those above it, and the field of it there.
pub fn tightest_of(limit: Kind, version: Version) -> Option<(&'static CgroupFile, Field)> {
    let of_version = FILES.iter().filter(|file| file.version == version);
    let mut rows = of_version.flat_map(|file| file.rows().iter().map(move |row| (file, row)));
    let (file, row) = rows.find(|(_, row)| row.tightest == Some(limit))?;
    Some((file, row.field))
}

/// The file that has the number of a field, and the key of its row.
pub fn file_with(field: Field, version: Version) -> Option<(&'static CgroupFile, &'static str)> {
    let mut files = FILES.iter().filter(|file| file.version == version);
    files.find_map(
        |file| match file.rows().iter().find(|row| row.field == field) {
            Some(row) => Some((file, row.key)),
            None => file.fields.contains(&field).then_some((file, "a number")),
        },
    )
}

/// What has the limit in a hierarchy of this version.
pub fn controller_of(limit: Kind, version: Version) -> &'static str {
    // v2 can limit everything.
    let controller = files_of(limit, Version::V2)
        .next()
        .and_then(|file| file.controller);
    match (controller.unwrap_or_default(), version) {
        ("io", Version::V1) => "blkio",
        (controller, _) => controller,
    }
}

/// Whether the kernel keeps whole pages of it.
pub fn is_in_pages(limit: Kind) -> bool {
    files_of(limit, Version::V2).any(|file| file.unit == Bytes)
}
