//! The table of cgroup files: `Documentation/admin-guide/cgroup-v1/` and `cgroup-v2.rst` of the kernel. Each row has a
//! file's name on its version and the format of its text. It has the limits that the file holds, and its numbers for
//! metrics. [`cgroup_format`](super::cgroup_format) parses the files. This module makes the texts that are written to
//! them.

use agent_model::hierarchy::Version;
use agent_model::limit::weight::{Scale, shares_of_weight, weight_of_shares};
use agent_model::limit::{Held, Kind, Limit, Value};

use super::cgroup_format::{Format, Row, Unit};
use super::hierarchy::{Hierarchies, Mounted};
use super::reading::{Field, Reading};

/// A file of a cgroup.
pub struct CgroupFile {
    pub version: Version,
    /// None: v2 has the file whatever controllers are enabled.
    pub controller: Option<&'static str>,
    pub name: &'static str,
    pub format: Format,
    pub unit: Unit,
    /// The limits that the file holds, or of which it holds a part. Only a write to the file changes them.
    pub limits: &'static [Kind],
    /// The numbers that metrics are made of. For [`Format::Rows`], the rows name the fields, and this lists those that
    /// may be remembered.
    pub fields: &'static [Field],
    /// The file with the effective setting, which may be less than what was written to this file.
    pub in_effect: Option<&'static str>,
    /// Whether the file adds to a reading of the files before it in [`FILES`].
    pub needed: fn(&Reading) -> bool,
    /// Whether only a write to a limit in the same directory can change what the file holds.
    pub settled: fn(&Reading) -> bool,
    /// The file is unchanged while this field, which was read before it, is unchanged. At most one file of a hierarchy
    /// has this.
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

/// v2's `memory.stat`.
const MEMORY_STAT_V2: &[Row] = &[
    row("anon", Field::Rss, Bytes),
    row("file", Field::Cache, Bytes),
    row("kernel", Field::KernelMemory, Bytes),
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

/// v2's `cpu.stat`.
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

/// The file needs no controller.
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

/// `VERSION CONTROLLER FILE: FORMAT UNIT [LIMITS] [FIELDS];`, with other members of the row before the semicolon.
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

/// All files. Files that are read each time come before those that are read seldom: where descriptors do not suffice
/// for all, the first files are kept open. A kept descriptor saves the same time for every file. Where a limit has two
/// files, the caller writes the second one first: the kernel checks a quota against the period that is set.
pub const FILES: &[CgroupFile] = files! {
    V1 "memory" "memory.usage_in_bytes": Number Bytes [] [MemoryUsage];
    V1 "memory" "memory.stat": (Rows(MEMORY_STAT_V1)) Bytes [] [];
    V1 "cpuacct" "cpuacct.usage": Number Nanoseconds [] [CpuUsage];
    V1 "pids" "pids.current": Number Count [] [Threads];
    V1 "cpu" "cpu.cfs_quota_us": Limit Microseconds [CpuQuota] [CpuQuota];
    V1 "cpu" "cpu.stat": (Rows(CPU_STAT_V1)) Count [] [] needed(has_quota);
    V1 "memory" "memory.max_usage_in_bytes": Number Bytes [] [MaxUsage];
    V1 "memory" "memory.kmem.usage_in_bytes": Number Bytes [] [KernelMemory];
    V1 "memory" "memory.failcnt": Number Count [] [Failcnt] settled(has_no_memory_limit);
    V1 "blkio" "blkio.throttle.io_service_bytes_recursive": DeviceOperations Bytes [] [];
    V1 "blkio" "blkio.throttle.io_serviced_recursive": DeviceOperations Count [] [] needed(has_devices);
    V1 "cpuacct" "cpuacct.stat": (Rows(CPUACCT_STAT)) Ticks [] [CpuUser CpuSystem] moves_with(Some(Field::CpuUsage));
    V1 "cpuacct" "cpuacct.usage_percpu": EachCpu Nanoseconds [] [];
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
    // cAdvisor exports memory.high as the reservation. The file that protects memory is memory.low.
    V2 "memory" "memory.high": Limit Bytes [MemoryHigh] [Reservation];
    V2 "cpu" "cpu.weight": Number Weight [CpuWeight] [CpuWeight];
    // These files have no metrics.
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

/// Whether the cgroup may have a limit of its own: without any limit on it and its ancestors it has none.
fn has_memory_limit(reading: &Reading) -> bool {
    reading.limit(Field::TreeMemoryLimit) != Some(Limit::Max)
}

fn has_swap_limit(reading: &Reading) -> bool {
    reading.limit(Field::TreeSwapLimit) != Some(Limit::Max)
}

/// Without a quota the kernel throttles nothing, and cAdvisor exports no throttling metrics.
fn has_quota(reading: &Reading) -> bool {
    reading.number(Field::CpuQuota).is_some()
}

/// Without a limit on the cgroup and its ancestors, the counter of failures does not move.
fn has_no_memory_limit(reading: &Reading) -> bool {
    !has_memory_limit(reading)
}

fn has_devices(reading: &Reading) -> bool {
    !reading.devices.is_empty()
}

impl CgroupFile {
    /// Returns whether cgroups of the hierarchy have the file.
    pub fn is_in(&self, mounted: &Mounted, hierarchies: &Hierarchies) -> bool {
        if self.version != mounted.version {
            return false;
        }
        let Some(controller) = self.controller else {
            // Where both versions account CPU time, v1's numbers are used, as they are finer.
            return self.name != "cpu.stat" || hierarchies.of_cpu_usage() == Some(mounted);
        };
        mounted.controllers.iter().any(|name| name == controller)
    }

    /// Returns whether the file holds limits.
    pub const fn is_of_settings(&self) -> bool {
        !self.limits.is_empty()
    }

    /// Returns whether the file has numbers for metrics.
    pub const fn has_metrics(&self) -> bool {
        !self.is_of_settings() || !self.fields.is_empty()
    }

    /// Returns whether the file is read only where somebody asked for its numbers: it has one for each CPU.
    pub const fn is_on_request(&self) -> bool {
        matches!(self.format, EachCpu)
    }

    /// Returns the text that sets the limit to this value. Returns None where the file cannot hold such a value.
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

    /// Returns the text of a limit. Of v1's files, only `pids.max` takes `max` for no limit; the others take -1.
    fn limit_text(&self, limit: Limit) -> String {
        match (limit, self.version, self.unit) {
            (Limit::Max, Version::V1, Unit::Bytes | Unit::Microseconds) => "-1".to_owned(),
            (limit, ..) => limit.to_string(),
        }
    }

    /// Returns the value that the kernel keeps of what was written: it rounds bytes down to whole pages.
    pub fn kept(&self, written: Held, page: u64) -> Held {
        match (self.unit, written) {
            (Unit::Bytes, Held::Amount(Limit::Value(bytes))) => {
                Held::Amount(Limit::Value(bytes - bytes % page))
            }
            (_, written) => written,
        }
    }

    /// Returns all fields that the file may fill.
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

/// Returns the key of a limit in a row of v2's `io.max`.
pub(super) const fn rate_key(kind: Kind) -> &'static str {
    match kind {
        Kind::ReadBps => "rbps",
        Kind::WriteBps => "wbps",
        Kind::ReadIops => "riops",
        _ => "wiops",
    }
}

/// Returns the files that hold a limit: none where this version cannot set it.
pub fn files_of(
    limit: Kind,
    version: Version,
) -> impl DoubleEndedIterator<Item = &'static CgroupFile> + Clone {
    let holds = move |file: &&CgroupFile| file.version == version && file.limits.contains(&limit);
    FILES.iter().filter(holds)
}

/// Returns the limits that the file of this name holds.
pub fn limits_of(name: &str, version: Version) -> &'static [Kind] {
    let mut files = FILES.iter();
    let file = files.find(|file| file.version == version && file.name == name);
    file.map_or(&[], |file| file.limits)
}

/// Returns the file that reports the tightest limit of the cgroup and its ancestors, and the field that holds it.
pub fn tightest_of(limit: Kind, version: Version) -> Option<(&'static CgroupFile, Field)> {
    let of_version = FILES.iter().filter(|file| file.version == version);
    let mut rows = of_version.flat_map(|file| file.rows().iter().map(move |row| (file, row)));
    let (file, row) = rows.find(|(_, row)| row.tightest == Some(limit))?;
    Some((file, row.field))
}

/// Returns the file that holds a field, and the key of its row.
pub fn file_with(field: Field, version: Version) -> Option<(&'static CgroupFile, &'static str)> {
    let mut files = FILES.iter().filter(|file| file.version == version);
    files.find_map(
        |file| match file.rows().iter().find(|row| row.field == field) {
            Some(row) => Some((file, row.key)),
            None => file.fields.contains(&field).then_some((file, "a number")),
        },
    )
}

/// Returns the controller that enforces a limit on this version.
pub fn controller_of(limit: Kind, version: Version) -> &'static str {
    // v2 has a file for every kind of limit.
    let controller = files_of(limit, Version::V2)
        .next()
        .and_then(|file| file.controller);
    match (controller.unwrap_or_default(), version) {
        ("io", Version::V1) => "blkio",
        (controller, _) => controller,
    }
}

/// Returns whether the kernel rounds this limit to whole pages.
pub fn is_in_pages(limit: Kind) -> bool {
    files_of(limit, Version::V2).any(|file| file.unit == Bytes)
}
