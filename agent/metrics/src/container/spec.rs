//! What was asked for: the limits of the very cgroup.

use agent_host::cgroup::Limit;
use agent_host::reading::Field;
use agent_limits::limit::{Kind, Value, is_weight_of_shares, line_shares_of_weight};

use super::{Cgroup, Source};
use crate::catalogue;

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
        write: |cgroup, out| out.number(shares(cgroup)),
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

/// v1's shares. Of v2's weight those that were asked for, where that is what a runtime makes of them; else cAdvisor's.
fn shares(cgroup: &Cgroup) -> Option<u64> {
    let Some(weight) = cgroup.number(Field::CpuWeight) else {
        return cgroup.number(Field::CpuShares);
    };
    let intended = cgroup.intended.iter().flat_map(|intent| &intent.limits);
    let mut asked = intended.filter_map(|limit| match limit {
        (Kind::CpuWeight, Value::Shares(shares)) => Some(*shares),
        _ => None,
    });
    let made = asked.find(|shares| is_weight_of_shares(weight, *shares));
    Some(made.unwrap_or_else(|| line_shares_of_weight(weight)))
}
