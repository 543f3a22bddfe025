//! The limits that a cgroup can have, and how much of each is intended or held. Which file holds which limit, and how it
//! is written there, is the table of `agent-host`.

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

/// A limit on something. The order is that of tightness: the least is the tightest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// So much, in the unit of what is limited.
    Value(u64),
    /// No limit: `max` in a file of v2.
    Max,
}

/// A thing that is limited. The order is that in which limits are written to a new cgroup: v1 wants the limit of memory
/// before that of memory and swap, which may not be less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The memory that a cgroup may use, in bytes.
    Memory,
    /// Memory and swap together.
    MemorySwap,
    /// Memory, in bytes, that the kernel leaves to a cgroup when memory is short.
    MemoryReservation,
    /// Memory, in bytes, above which the kernel slows a cgroup down; v2 only.
    MemoryHigh,
    /// CPU time in each period.
    CpuQuota,
    /// The share of CPU time among siblings.
    CpuWeight,
    /// The CPUs that a cgroup may run on.
    CpusetCpus,
    /// The memory nodes that a cgroup may allocate from.
    CpusetMems,
    /// The tasks that a cgroup may have.
    Pids,
    /// Bytes in a second that a cgroup may read from a block device.
    ReadBps,
    /// Bytes in a second that a cgroup may write to a block device.
    WriteBps,
    /// Reads in a second from a block device.
    ReadIops,
    /// Writes in a second to a block device.
    WriteIops,
}

/// How much of it is intended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// Bytes or tasks.
    Amount(Limit),
    /// `both` is memory and swap together. v1 limits that, v2 swap alone: `memory` is the limit of memory beside it.
    Swap {
        /// The limit of memory, in bytes.
        memory: u64,
        /// The limit of memory and swap together, in bytes.
        both: Limit,
        /// What `memory` may have been when the file was written, where whoever asked for the limit does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        earlier: Option<u64>,
    },
    /// Microseconds of CPU time in each period.
    Quota {
        /// Microseconds of CPU time.
        quota: Limit,
        /// Microseconds.
        period: u64,
    },
    /// v1's CPU shares, 2 to 262,144.
    Shares(u64),
    /// v2's CPU weight, 1 to 10,000.
    Weight(u64),
    /// CPUs or memory nodes.
    Numbers(Numbers),
    /// Bytes or I/Os in a second, of a block device.
    Rate {
        /// The device that is limited.
        device: Device,
        /// Bytes or I/Os.
        limit: Limit,
    },
}

/// A block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device {
    /// The driver's number.
    pub major: u32,
    /// The number among the driver's devices.
    pub minor: u32,
}

/// What the files of a cgroup hold of a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// In the file's unit: bytes, tasks, a weight, shares, or a second's.
    Amount(Limit),
    /// CPU time in each period.
    Quota {
        /// Microseconds of CPU time.
        quota: Limit,
        /// Microseconds.
        period: u64,
    },
    /// CPUs or memory nodes.
    Numbers(Numbers),
}

impl Kind {
    /// All of them, in their order.
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

    /// Whether each block device has one of its own.
    pub const fn is_rate(self) -> bool {
        matches!(
            self,
            Self::ReadBps | Self::WriteBps | Self::ReadIops | Self::WriteIops
        )
    }

    /// Whether it keeps anything from a cgroup: a weight counts among siblings only, and a reservation protects.
    pub const fn binds(self) -> bool {
        !matches!(self, Self::CpuWeight | Self::MemoryReservation)
    }

    /// Whether the limits of the cgroups above hold too. v1 throttles block devices by the cgroup's own limits alone
    /// (`throtl_pd_init`, block/blk-throttle.c).
    pub fn is_inherited(self, version: Version) -> bool {
        self.binds() && (version == Version::V2 || !self.is_rate())
    }
}

impl Value {
    /// The block device that it is about.
    pub fn device(&self) -> Option<Device> {
        match self {
            Self::Rate { device, .. } => Some(*device),
            _ => None,
        }
    }
}

impl Held {
    /// Whether it limits nothing. An empty set of v2 is that of the cgroup above.
    pub fn is_none(&self) -> bool {
        match self {
            Self::Amount(limit) | Self::Quota { quota: limit, .. } => *limit == Limit::Max,
            Self::Numbers(numbers) => numbers.is_empty(),
        }
    }

    /// Whether both say the same: without a quota, the period says nothing.
    pub fn is_same(&self, other: &Self) -> bool {
        self == other || (self.is_none() && other.is_none())
    }

    /// What holds where both limits do, as a cgroup's and its parent's: the tighter of the two. A weight counts among
    /// siblings only, and is no such limit.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Amount(one), Self::Amount(other)) => Self::Amount(one.min(other)),
            (Self::Numbers(one), Self::Numbers(other)) => Self::Numbers(one.of_both(&other)),
            (one, other) if one.share() <= other.share() => one,
            (_, other) => other,
        }
    }

    /// Of one CPU's time; no quota is more than any.
    fn share(&self) -> f64 {
        match *self {
            Self::Quota {
                quota: Limit::Value(quota),
                period,
            } => quota as f64 / period.max(1) as f64,
            _ => f64::INFINITY,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// As v2 writes it.
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
