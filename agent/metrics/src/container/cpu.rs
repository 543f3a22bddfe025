//! The families of CPU time, throttling and pressure stall information (PSI).

use agent_host::reading::Field;

use super::{Cgroup, Samples, Source};
use crate::catalogue;
use crate::text::Value;

/// Returns a field that has a series only where the cgroup has a quota, as in cAdvisor.
fn throttled(cgroup: &Cgroup, field: Field) -> Option<u64> {
    cgroup.number(Field::CpuQuota)?;
    cgroup.number(field)
}

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::CPU_USAGE,
        write: usage,
    },
    Source {
        metric: &catalogue::CPU_USER,
        write: |cgroup, out| out.seconds(cgroup.number(Field::CpuUser)),
    },
    Source {
        metric: &catalogue::CPU_SYSTEM,
        write: |cgroup, out| out.seconds(cgroup.number(Field::CpuSystem)),
    },
    Source {
        metric: &catalogue::CFS_PERIODS,
        write: |cgroup, out| out.number(throttled(cgroup, Field::Periods)),
    },
    Source {
        metric: &catalogue::CFS_THROTTLED_PERIODS,
        write: |cgroup, out| out.number(throttled(cgroup, Field::ThrottledPeriods)),
    },
    Source {
        metric: &catalogue::CFS_THROTTLED_TIME,
        write: |cgroup, out| out.seconds(throttled(cgroup, Field::ThrottledTime)),
    },
    Source {
        metric: &catalogue::PRESSURE_CPU_WAITING,
        write: |cgroup, out| out.seconds(cgroup.number(Field::CpuWaiting)),
    },
    Source {
        metric: &catalogue::PRESSURE_CPU_STALLED,
        write: |cgroup, out| out.seconds(cgroup.number(Field::CpuStalled)),
    },
    Source {
        metric: &catalogue::PRESSURE_MEMORY_WAITING,
        write: |cgroup, out| out.seconds(cgroup.number(Field::MemoryWaiting)),
    },
    Source {
        metric: &catalogue::PRESSURE_MEMORY_STALLED,
        write: |cgroup, out| out.seconds(cgroup.number(Field::MemoryStalled)),
    },
    Source {
        metric: &catalogue::PRESSURE_IO_WAITING,
        write: |cgroup, out| out.seconds(cgroup.number(Field::IoWaiting)),
    },
    Source {
        metric: &catalogue::PRESSURE_IO_STALLED,
        write: |cgroup, out| out.seconds(cgroup.number(Field::IoStalled)),
    },
];

/// Writes the CPU time on each CPU that was used, where it was read; otherwise the total.
fn usage(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    let cpus = &cgroup.reading.cpus;
    for (cpu, nanoseconds) in cpus.iter().enumerate().filter(|(_, it)| **it > 0) {
        out.push(&[&format!("cpu{cpu:02}")], Value::Seconds(*nanoseconds));
    }
    let total = cgroup.number(Field::CpuUsage).filter(|_| cpus.is_empty());
    if let Some(nanoseconds) = total {
        out.push(&["total"], Value::Seconds(nanoseconds));
    }
}
