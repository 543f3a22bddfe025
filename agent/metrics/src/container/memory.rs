//! The families of memory.

use agent_host::reading::Field;

use super::{Cgroup, Samples, Source};
use crate::catalogue;
use crate::text::Value;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::MEMORY_USAGE,
        write: |cgroup, out| out.number(cgroup.number(Field::MemoryUsage)),
    },
    Source {
        metric: &catalogue::MEMORY_WORKING_SET,
        write: |cgroup, out| out.number(working_set(cgroup)),
    },
    Source {
        metric: &catalogue::MEMORY_RSS,
        write: |cgroup, out| out.number(cgroup.number(Field::Rss)),
    },
    Source {
        metric: &catalogue::MEMORY_CACHE,
        write: |cgroup, out| out.number(cgroup.number(Field::Cache)),
    },
    Source {
        metric: &catalogue::MEMORY_SWAP,
        write: |cgroup, out| out.number(cgroup.number(Field::Swap)),
    },
    Source {
        metric: &catalogue::MEMORY_KERNEL_USAGE,
        write: |cgroup, out| out.number(cgroup.number(Field::KernelMemory)),
    },
    Source {
        metric: &catalogue::MEMORY_MAPPED_FILE,
        write: |cgroup, out| out.number(cgroup.number(Field::MappedFile)),
    },
    Source {
        metric: &catalogue::MEMORY_ACTIVE_FILE,
        write: |cgroup, out| out.number(cgroup.number(Field::ActiveFile)),
    },
    Source {
        metric: &catalogue::MEMORY_INACTIVE_FILE,
        write: |cgroup, out| out.number(cgroup.number(Field::InactiveFile)),
    },
    Source {
        metric: &catalogue::MEMORY_MAX_USAGE,
        write: |cgroup, out| out.number(cgroup.number(Field::MaxUsage)),
    },
    Source {
        metric: &catalogue::MEMORY_FAILCNT,
        write: |cgroup, out| out.number(cgroup.number(Field::Failcnt)),
    },
    Source {
        metric: &catalogue::MEMORY_FAILURES,
        write: failures,
    },
];

/// Returns the usage without the inactive part of the page cache, as cAdvisor and the kubelet compute it.
fn working_set(cgroup: &Cgroup) -> Option<u64> {
    let usage = cgroup.number(Field::MemoryUsage)?;
    Some(usage.saturating_sub(cgroup.number(Field::InactiveFile)?))
}

/// Writes the page faults. v2 has no counts of the cgroup without its descendants, so both scopes have the same value,
/// as in cAdvisor.
fn failures(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    for (name, own, tree) in [
        ("pgfault", Field::Faults, Field::TreeFaults),
        ("pgmajfault", Field::MajorFaults, Field::TreeMajorFaults),
    ] {
        let tree = cgroup.number(tree);
        let own = cgroup.number(own).or(tree);
        for (scope, count) in [("container", own), ("hierarchy", tree)] {
            if let Some(count) = count {
                out.push(&[name, scope], Value::Number(count));
            }
        }
    }
}
