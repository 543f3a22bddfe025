//! The limits that apply to a process: those of its cgroups and of their ancestors. A container that the process
//! launches is to be under them too.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Device, Held, Kind, Quantity};
use crate::hierarchy::Version;

/// A limit of one cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The cgroup's path in the hierarchy.
    pub cgroup: String,
    /// The file that holds the limit.
    pub file: PathBuf,
    /// The file's text. If two files hold the limit, both texts with a space between them.
    pub text: String,
    /// The value in the text.
    pub held: Held,
}

impl Link {
    /// Whether this limit is tighter than `other`, the effective limit without it; `None` stands for no limit.
    pub fn is_tighter_than(&self, other: Option<&Held>) -> bool {
        let tightens = |other: &Held| other.clone().tighter(self.held.clone()) != *other;
        !self.held.is_none() && other.is_none_or(tightens)
    }
}

/// The limits that applied to a process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The tightest limit of each kind that is limited; for a rate, the tightest of each device.
    pub known: Vec<Bound>,
    /// The kinds whose limits cannot be read.
    pub unknown: Vec<Unknown>,
}

/// A limit that applies to a process, and the cgroup that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// What is limited.
    pub kind: Kind,
    /// The block device of a rate; absent for all others.
    pub device: Option<Device>,
    /// The version of the hierarchy that has the limit.
    pub version: Version,
    /// The cgroup that has the limit, and its value.
    pub link: Link,
}

/// A kind of limit that may apply, but cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// What may be limited.
    pub kind: Kind,
    /// Why the limit cannot be read.
    pub why: String,
}

impl Bound {
    /// The limit with its unit.
    pub fn quantity(&self) -> Quantity {
        Quantity::of_held(self.kind, self.version, &self.link.held)
    }

    /// The limit and its cgroup in a few words: `memory 150.0M of /a`.
    pub fn words(&self) -> String {
        let device = self.device.map(|device| format!(" of {device}"));
        let (flag, held) = (self.kind.flag(), self.quantity().text);
        let device = device.unwrap_or_default();
        format!("{flag}{device} {held} of {}", self.link.cgroup)
    }
}
