//! Which metric is which number of which file.

use tests::cgroup::Cgroup;

/// A number in a file of a cgroup.
pub struct Source {
    controller: &'static str,
    file: &'static str,
    /// The row's key; of a file that is one number, nothing.
    key: &'static str,
    /// Units of the file in one of the metric.
    scale: f64,
}

/// A metric, labels of its own, and where v1 and v2 say the same.
pub struct Row {
    pub metric: &'static str,
    pub labels: &'static [(&'static str, &'static str)],
    /// Whether the load makes it more than 0.
    pub loaded: bool,
    v1: Source,
    v2: Source,
}

const fn at(controller: &'static str, file: &'static str, key: &'static str, scale: f64) -> Source {
    Source {
        controller,
        file,
        key,
        scale,
    }
}

/// Of what the load changes, or was set.
const fn row(metric: &'static str, v1: Source, v2: Source) -> Row {
    Row {
        metric,
        labels: &[],
        loaded: true,
        v1,
        v2,
    }
}

const FAULTS: &[(&str, &str)] = &[("failure_type", "pgfault"), ("scope", "hierarchy")];
const MAJOR_FAULTS: &[(&str, &str)] = &[("failure_type", "pgmajfault"), ("scope", "hierarchy")];
const TOTAL: &[(&str, &str)] = &[("cpu", "total")];

pub const ROWS: &[Row] = &[
    Row {
        labels: TOTAL,
        ..row(
            "container_cpu_usage_seconds_total",
            at("cpuacct", "cpuacct.usage", "", 1e9),
            at("cpu", "cpu.stat", "usage_usec", 1e6),
        )
    },
    row(
        "container_cpu_user_seconds_total",
        at("cpuacct", "cpuacct.stat", "user", 100.0),
        at("cpu", "cpu.stat", "user_usec", 1e6),
    ),
    row(
        "container_cpu_system_seconds_total",
        at("cpuacct", "cpuacct.stat", "system", 100.0),
        at("cpu", "cpu.stat", "system_usec", 1e6),
    ),
    row(
        "container_cpu_cfs_periods_total",
        at("cpu", "cpu.stat", "nr_periods", 1.0),
        at("cpu", "cpu.stat", "nr_periods", 1.0),
    ),
    row(
        "container_cpu_cfs_throttled_periods_total",
        at("cpu", "cpu.stat", "nr_throttled", 1.0),
        at("cpu", "cpu.stat", "nr_throttled", 1.0),
    ),
    row(
        "container_cpu_cfs_throttled_seconds_total",
        at("cpu", "cpu.stat", "throttled_time", 1e9),
        at("cpu", "cpu.stat", "throttled_usec", 1e6),
    ),
    row(
        "container_memory_usage_bytes",
        at("memory", "memory.usage_in_bytes", "", 1.0),
        at("memory", "memory.current", "", 1.0),
    ),
    row(
        "container_memory_max_usage_bytes",
        at("memory", "memory.max_usage_in_bytes", "", 1.0),
        at("memory", "memory.peak", "", 1.0),
    ),
    row(
        "container_memory_kernel_usage",
        at("memory", "memory.kmem.usage_in_bytes", "", 1.0),
        at("memory", "memory.stat", "kernel", 1.0),
    ),
    row(
        "container_memory_failcnt",
        at("memory", "memory.failcnt", "", 1.0),
        at("memory", "memory.events.local", "max", 1.0),
    ),
    row(
        "container_memory_rss",
        at("memory", "memory.stat", "total_rss", 1.0),
        at("memory", "memory.stat", "anon", 1.0),
    ),
    row(
        "container_memory_cache",
        at("memory", "memory.stat", "total_cache", 1.0),
        at("memory", "memory.stat", "file", 1.0),
    ),
    // Where there is swap.
    Row {
        loaded: false,
        ..row(
            "container_memory_swap",
            at("memory", "memory.stat", "total_swap", 1.0),
            at("memory", "memory.swap.current", "", 1.0),
        )
    },
    row(
        "container_memory_mapped_file",
        at("memory", "memory.stat", "total_mapped_file", 1.0),
        at("memory", "memory.stat", "file_mapped", 1.0),
    ),
    row(
        "container_memory_total_inactive_file_bytes",
        at("memory", "memory.stat", "total_inactive_file", 1.0),
        at("memory", "memory.stat", "inactive_file", 1.0),
    ),
    row(
        "container_memory_total_active_file_bytes",
        at("memory", "memory.stat", "total_active_file", 1.0),
        at("memory", "memory.stat", "active_file", 1.0),
    ),
    Row {
        labels: FAULTS,
        ..row(
            "container_memory_failures_total",
            at("memory", "memory.stat", "total_pgfault", 1.0),
            at("memory", "memory.stat", "pgfault", 1.0),
        )
    },
    Row {
        labels: MAJOR_FAULTS,
        ..row(
            "container_memory_failures_total",
            at("memory", "memory.stat", "total_pgmajfault", 1.0),
            at("memory", "memory.stat", "pgmajfault", 1.0),
        )
    },
    row(
        "container_threads",
        at("pids", "pids.current", "", 1.0),
        at("pids", "pids.current", "", 1.0),
    ),
    row(
        "container_threads_max",
        at("pids", "pids.max", "", 1.0),
        at("pids", "pids.max", "", 1.0),
    ),
    row(
        "container_spec_memory_limit_bytes",
        at("memory", "memory.limit_in_bytes", "", 1.0),
        at("memory", "memory.max", "", 1.0),
    ),
    row(
        "container_spec_memory_reservation_limit_bytes",
        at("memory", "memory.soft_limit_in_bytes", "", 1.0),
        at("memory", "memory.high", "", 1.0),
    ),
    row(
        "container_spec_memory_swap_limit_bytes",
        at("memory", "memory.memsw.limit_in_bytes", "", 1.0),
        at("memory", "memory.swap.max", "", 1.0),
    ),
];

impl Row {
    /// What the kernel says now.
    ///
    /// # Panics
    /// Where it says nothing.
    pub fn kernel(&self, cgroup: &Cgroup) -> f64 {
        let source = if Cgroup::is_v1(self.v1.controller) {
            &self.v1
        } else {
            &self.v2
        };
        let text = cgroup.read(source.controller, source.file);
        let number = match source.key {
            "" => text.trim(),
            key => {
                let mut rows = text.lines().filter_map(|line| line.split_once(' '));
                rows.find(|row| row.0 == key).expect(key).1
            }
        };
        number.parse::<f64>().expect(source.file) / source.scale
    }
}
