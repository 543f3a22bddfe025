//! The families of the limits that are set in the cgroup itself.

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

/// Returns the cgroup's own limit. As in cAdvisor, 0 means no limit.
fn own(cgroup: &Cgroup, kind: Kind) -> Option<u64> {
    match cgroup.reading.own(kind).held()? {
        Held::Amount(Limit::Value(limit)) => Some(*limit),
        _ => Some(0),
    }
}

/// Returns the CPU shares. On v2 these are the intended shares, if a runtime converts them to the weight in the file;
/// otherwise the shares that cAdvisor computes from the weight.
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
