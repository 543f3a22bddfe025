//! The limits that a cgroup can have: their kinds, and their values as intended and as cgroup files hold them.
//!
//! `agent-host` has the table that says which file holds which limit, and how it is written there.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hierarchy::Version;

mod bound;
mod intent;
mod numbers;
mod quantity;
pub mod weight;

pub use bound::{Bound, Bounds, Link, Unknown};
pub use intent::{Intent, Source};
pub use numbers::Numbers;
pub use quantity::Quantity;

/// An upper bound, or none. The order is that of tightness: the least is the tightest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// A bound, in the unit of what is limited.
    Value(u64),
    /// No bound: `max` in a v2 file.
    Max,
}

/// What is limited. The order is that in which limits are written to a new cgroup: v1 needs the limit on memory before
/// that on memory and swap together, which may not be less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The memory that a cgroup may use, in bytes.
    Memory,
    /// The memory and swap together that a cgroup may use, in bytes.
    MemorySwap,
    /// The memory, in bytes, that the kernel leaves to a cgroup when memory is short.
    MemoryReservation,
    /// The memory, in bytes, above which the kernel throttles a cgroup; v2 only.
    MemoryHigh,
    /// The CPU time that a cgroup may use in each period.
    CpuQuota,
    /// The share of CPU time among siblings.
    CpuWeight,
    /// The CPUs that a cgroup may run on.
    CpusetCpus,
    /// The memory nodes that a cgroup may allocate from.
    CpusetMems,
    /// The number of tasks that a cgroup may have.
    Pids,
    /// The bytes per second that a cgroup may read from a block device.
    ReadBps,
    /// The bytes per second that a cgroup may write to a block device.
    WriteBps,
    /// The reads per second that a cgroup may make from a block device.
    ReadIops,
    /// The writes per second that a cgroup may make to a block device.
    WriteIops,
}

/// The value of a limit as somebody intended it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// Bytes or tasks.
    Amount(Limit),
    /// The limit on memory and swap together, with the limit on memory. v1 limits both together, v2 swap alone: its
    /// value is the difference of the two.
    Swap {
        /// The limit on memory, in bytes.
        memory: u64,
        /// The limit on memory and swap together, in bytes.
        both: Limit,
        /// The value that `memory` may have had when the file was written, if the source of the intent does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        earlier: Option<u64>,
    },
    /// The CPU time in each period.
    Quota {
        /// The CPU time in microseconds.
        quota: Limit,
        /// The period in microseconds.
        period: u64,
    },
    /// v1's CPU shares, 2 to 262,144.
    Shares(u64),
    /// v2's CPU weight, 1 to 10,000.
    Weight(u64),
    /// CPUs or memory nodes.
    Numbers(Numbers),
    /// The bytes or I/Os per second on a block device.
    Rate {
        /// The device to which the limit applies.
        device: Device,
        /// The bytes or I/Os per second.
        limit: Limit,
    },
}

/// A block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device {
    /// The major number, which is the driver's.
    pub major: u32,
    /// The minor number, which is the device's among those of the driver.
    pub minor: u32,
}

/// The value of a limit as a cgroup's files hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// A number in the file's unit: bytes, tasks, a weight, shares, or bytes or I/Os per second.
    Amount(Limit),
    /// The CPU time in each period.
    Quota {
        /// The CPU time in microseconds.
        quota: Limit,
        /// The period in microseconds.
        period: u64,
    },
    /// CPUs or memory nodes.
    Numbers(Numbers),
}

impl Kind {
    /// All kinds, in their order.
    pub const ALL: [Self; 13] = [
        Self::Memory,
        Self::MemorySwap,
        Self::MemoryReservation,
        Self::MemoryHigh,
        Self::CpuQuota,
        Self::CpuWeight,
        Self::CpusetCpus,
        Self::CpusetMems,
        Self::Pids,
        Self::ReadBps,
        Self::WriteBps,
        Self::ReadIops,
        Self::WriteIops,
    ];

    /// The flag of `agent run`, without its dashes.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::MemorySwap => "memory-swap",
            Self::MemoryReservation => "memory-reservation",
            Self::MemoryHigh => "memory-high",
            Self::CpuQuota => "cpu-quota",
            Self::CpuWeight => "cpu-weight",
            Self::CpusetCpus => "cpuset-cpus",
            Self::CpusetMems => "cpuset-mems",
            Self::Pids => "pids-limit",
            Self::ReadBps => "device-read-bps",
            Self::WriteBps => "device-write-bps",
            Self::ReadIops => "device-read-iops",
            Self::WriteIops => "device-write-iops",
        }
    }

    /// Whether each block device has a limit of this kind of its own.
    pub const fn is_rate(self) -> bool {
        matches!(
            self,
            Self::ReadBps | Self::WriteBps | Self::ReadIops | Self::WriteIops
        )
    }

    /// Whether the kernel denies a cgroup anything because of this limit. A weight only sets the share among siblings,
    /// and a reservation only protects.
    pub const fn binds(self) -> bool {
        !matches!(self, Self::CpuWeight | Self::MemoryReservation)
    }

    /// Whether the limits of a cgroup's ancestors apply to the cgroup too. v1 throttles block devices by the cgroup's
    /// own limits alone (`throtl_pd_init`, block/blk-throttle.c).
    pub fn is_inherited(self, version: Version) -> bool {
        self.binds() && (version == Version::V2 || !self.is_rate())
    }
}

impl Value {
    /// The block device of a rate; `None` for all other values.
    pub fn device(&self) -> Option<Device> {
        match self {
            Self::Rate { device, .. } => Some(*device),
            _ => None,
        }
    }
}

impl Held {
    /// Whether this limits nothing. On v2, an empty set means that the parent's set applies.
    pub fn is_none(&self) -> bool {
        match self {
            Self::Amount(limit) | Self::Quota { quota: limit, .. } => *limit == Limit::Max,
            Self::Numbers(numbers) => numbers.is_empty(),
        }
    }

    /// Whether both values are the same limit. Two quotas are if they allow the same CPU time, whatever their periods: who
    /// asks for half a CPU names no period.
    pub fn is_same(&self, other: &Self) -> bool {
        let is_same_share = match (self.quota(), other.quota()) {
            (Some((quota, period)), Some((other, its_period))) => {
                u128::from(quota) * u128::from(its_period) == u128::from(other) * u128::from(period)
            }
            _ => false,
        };
        self == other || (self.is_none() && other.is_none()) || is_same_share
    }

    /// The microseconds of CPU time, and those of the period.
    const fn quota(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Quota {
                quota: Limit::Value(quota),
                period,
            } => Some((quota, period)),
            _ => None,
        }
    }

    /// The effective limit where both limits apply, such as a cgroup's and its parent's: the tighter of two amounts or
    /// quotas, the CPUs or memory nodes in both of two sets.
    ///
    /// It makes no sense for weights, which only set the share among siblings.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Amount(one), Self::Amount(other)) => Self::Amount(one.min(other)),
            (Self::Numbers(one), Self::Numbers(other)) => Self::Numbers(one.of_both(&other)),
            (one, other) if one.share() <= other.share() => one,
            (_, other) => other,
        }
    }

    /// The quota as a share of one CPU's time; infinite without a quota.
    fn share(&self) -> f64 {
        let share = |(quota, period): (u64, u64)| quota as f64 / period.max(1) as f64;
        self.quota().map_or(f64::INFINITY, share)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Written as in a v2 file.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Value(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(limit) => limit.fmt(f),
            Self::Quota { quota, period } => write!(f, "{quota} {period}"),
            Self::Numbers(numbers) => numbers.fmt(f),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(limit) | Self::Swap { both: limit, .. } => limit.fmt(f),
            Self::Quota { quota, period } => write!(f, "{quota} of {period} µs"),
            Self::Shares(value) | Self::Weight(value) => value.fmt(f),
            Self::Numbers(numbers) => numbers.fmt(f),
            Self::Rate { device, limit } => write!(f, "{device} {limit}"),
        }
    }
}

#[cfg(test)]
mod tests;
