//! The limits that a cgroup can have: which file of which controller holds each, on v1 and on v2, and what is written
//! there and read back. Pure: the runtime writes, and whoever wants to know reads.
//!
//! Documentation/admin-guide/cgroup-v2.rst of the kernel, and cgroup-v1/{memory,blkio-controller,cpusets,pids}.rst and
//! scheduler/sched-bwc.rst beside it.

use std::fmt;
use std::path::PathBuf;

use agent_host::cgroup::Limit;
use agent_host::hierarchy::Version;
use serde::{Deserialize, Serialize};

pub mod bound;
pub mod chain;
mod form;
mod intent;
mod numbers;
mod quantity;
mod table;
mod weight;

pub use form::Form;
pub use intent::{Intent, Source};
pub use numbers::Numbers;
pub use quantity::Quantity;
pub use table::{File, Row, TABLE};
pub use weight::{
    is_weight_of_shares, line_shares_of_weight, line_weight_of_shares, shares_of_weight,
    weight_of_shares,
};

/// A thing that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Memory,
    /// Memory and swap together.
    MemorySwap,
    MemoryReservation,
    MemoryHigh,
    CpuQuota,
    CpuWeight,
    CpusetCpus,
    CpusetMems,
    Pids,
    ReadBps,
    WriteBps,
    ReadIops,
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
        memory: u64,
        both: Limit,
        /// What `memory` may have been when the file was written, where whoever asked for the limit does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        earlier: Option<u64>,
    },
    /// Microseconds of CPU time in each period.
    Quota { quota: Limit, period: u64 },
    /// v1's word for a weight, 2 to 262,144.
    Shares(u64),
    /// v2's word, 1 to 10,000.
    Weight(u64),
    /// CPUs or memory nodes.
    Numbers(Numbers),
    /// Bytes or I/Os in a second, of a block device.
    Rate { device: Device, limit: Limit },
}

/// A block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

/// What a file holds of a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// In the file's unit: bytes, tasks, a weight, shares, or a second's.
    Amount(Limit),
    Quota {
        quota: Limit,
        period: u64,
    },
    Numbers(Numbers),
}

/// What files are to hold of what was intended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub held: Held,
    /// Another reading of the same wish, where runtimes do not agree.
    pub other: Option<Held>,
}

impl Expected {
    /// Whether this is what was intended.
    pub fn allows(&self, held: &Held) -> bool {
        let mut all = [Some(&self.held), self.other.as_ref()]
            .into_iter()
            .flatten();
        all.any(|it| it.is_same(held))
    }
}

impl From<Held> for Expected {
    fn from(held: Held) -> Self {
        Self { held, other: None }
    }
}

/// A limit that was set: one link after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub kind: Kind,
    pub intended: Value,
    pub version: Version,
    pub file: PathBuf,
    pub written: String,
    pub read_back: Held,
}

impl Kind {
    pub fn row(self) -> &'static Row {
        // Every kind has its row, in the order of the kinds: a test looks.
        &TABLE[self as usize]
    }

    /// The flag of `agent run`, without its dashes.
    pub fn flag(self) -> &'static str {
        self.row().flag
    }

    /// Whether it is one of each block device.
    pub fn is_rate(self) -> bool {
        let mut files = self.row().v2.iter();
        files.any(|file| matches!(file.form, Form::DeviceKey(_)))
    }

    /// Whether a file of this name holds it.
    pub fn is_in(self, file: &str) -> bool {
        let row = self.row();
        let mut files = row.v1.iter().chain(row.v2);
        files.any(|it| it.name == file)
    }

    /// Whether the kernel keeps whole pages of it.
    pub fn is_in_pages(self) -> bool {
        let row = self.row();
        let mut files = row.v1.iter().chain(row.v2);
        files.any(|file| matches!(file.form, Form::Bytes | Form::SwapAlone))
    }

    /// The files that hold it; none where this version cannot limit it.
    pub fn files(self, version: Version) -> &'static [File] {
        match version {
            Version::V1 => self.row().v1,
            Version::V2 => self.row().v2,
        }
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
            (Self::Amount(one), Self::Amount(other)) => Self::Amount(smaller(one, other)),
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

fn smaller(one: Limit, other: Limit) -> Limit {
    match (one, other) {
        (Limit::Value(one), Limit::Value(other)) => Limit::Value(one.min(other)),
        (Limit::Max, limit) | (limit, Limit::Max) => limit,
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A limit as v2 writes it.
struct Shown(Limit);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Limit::Max => f.write_str("max"),
            Limit::Value(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(limit) => Shown(*limit).fmt(f),
            Self::Quota { quota, period } => write!(f, "{} {period}", Shown(*quota)),
            Self::Numbers(numbers) => numbers.fmt(f),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(limit) | Self::Swap { both: limit, .. } => Shown(*limit).fmt(f),
            Self::Quota { quota, period } => write!(f, "{} of {period} µs", Shown(*quota)),
            Self::Shares(value) | Self::Weight(value) => value.fmt(f),
            Self::Numbers(numbers) => numbers.fmt(f),
            Self::Rate { device, limit } => write!(f, "{device} {}", Shown(*limit)),
        }
    }
}

#[cfg(test)]
mod tests;
