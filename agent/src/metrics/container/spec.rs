//! What was asked for: the limits of the very cgroup.

use super::{Cgroup, Source};
use crate::host::cgroup::Limit;
use crate::host::reading::Field;
use crate::metrics::catalogue;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::SPEC_CPU_PERIOD,
        write: |cgroup, out| out.number(cgroup.number(Field::CpuPeriod)),
    },
    Source {
        metric: &catalogue::SPEC_CPU_QUOTA,
        write: |cgroup, out| out.number(cgroup.number(Field::CpuQuota)),
    },
    Source {
        metric: &catalogue::SPEC_CPU_SHARES,
        write: |cgroup, out| out.number(cgroup.number(Field::CpuShares)),
    },
    Source {
        metric: &catalogue::MEMORY_LIMIT,
        write: |cgroup, out| out.limit(own(cgroup, Field::MemoryLimit, Field::TreeMemoryLimit)),
    },
    Source {
        metric: &catalogue::MEMORY_RESERVATION,
        write: |cgroup, out| out.limit(cgroup.reading.limit(Field::Reservation)),
    },
    Source {
        metric: &catalogue::MEMORY_SWAP_LIMIT,
        write: |cgroup, out| out.limit(own(cgroup, Field::SwapLimit, Field::TreeSwapLimit)),
    },
];

/// The own limit. It is not read where the tightest of all above is none.
pub fn own(cgroup: &Cgroup, own: Field, tree: Field) -> Option<Limit> {
    let tree = cgroup.reading.limit(tree);
    let none = tree.filter(|limit| *limit == Limit::Max);
    cgroup.reading.limit(own).or(none)
}
