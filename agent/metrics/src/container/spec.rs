//! What was asked for: the limits of the very cgroup.

use agent_host::reading::Field;
use agent_model::limit::weight::{Scale, shares_of_weight, weight_of_shares};
use agent_model::limit::{Held, Kind, Limit, Value};

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
        write: |cgroup, out| out.number(own(cgroup, Kind::Memory)),
    },
    Source {
        metric: &catalogue::MEMORY_RESERVATION,
        write: |cgroup, out| out.limit(cgroup.reading.limit(Field::Reservation)),
    },
    Source {
        metric: &catalogue::MEMORY_SWAP_LIMIT,
        write: |cgroup, out| out.number(own(cgroup, Kind::MemorySwap)),
    },
];

/// The cgroup's own limit. No limit is 0, as cAdvisor has it.
fn own(cgroup: &Cgroup, kind: Kind) -> Option<u64> {
    match cgroup.reading.own(kind).held()? {
        Held::Amount(Limit::Value(limit)) => Some(*limit),
        _ => Some(0),
    }
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
    let makes = |shares, scale| weight_of_shares(shares, scale) == weight;
    let made = asked.find(|it| makes(*it, Scale::Curve) || makes(*it, Scale::Line));
    Some(made.unwrap_or_else(|| shares_of_weight(weight, Scale::Line)))
}
