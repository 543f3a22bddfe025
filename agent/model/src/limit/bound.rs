//! The limits that a process is under: those of its cgroups, and of the cgroups above them. What it starts is to be under
//! them too.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Device, Held, Kind, Quantity};
use crate::hierarchy::Version;

/// A limit as one cgroup has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The cgroup's path in the hierarchy.
    pub cgroup: String,
    /// The file that holds it.
    pub file: PathBuf,
    /// As the kernel writes it; of two files, both with a space between them.
    pub text: String,
    /// What the text means.
    pub held: Held,
}

impl Link {
    /// Whether it changes what holds without it.
    pub fn is_tighter_than(&self, other: Option<&Held>) -> bool {
        let tightens = |other: &Held| other.clone().tighter(self.held.clone()) != *other;
        !self.held.is_none() && other.is_none_or(tightens)
    }
}

/// The limits that a process was under at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Of each kind that is limited the tightest; of a rate one for each device.
    pub known: Vec<Bound>,
    /// Those that may be there, and cannot be read.
    pub unknown: Vec<Unknown>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// What is limited.
    pub kind: Kind,
    /// The block device of a rate; absent for all others.
    pub device: Option<Device>,
    /// The version of the hierarchy that has the limit.
    pub version: Version,
    /// The cgroup that has the limit, and what the limit was.
    pub link: Link,
}

/// A limit that may be there, and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// What may be limited.
    pub kind: Kind,
    /// Why the limit cannot be read.
    pub why: String,
}

impl Bound {
    /// What the limit was, with its unit.
    pub fn quantity(&self) -> Quantity {
        Quantity::of_held(self.kind, self.version, &self.link.held)
    }

    /// Its limit, and whose it is, in a few words.
    pub fn words(&self) -> String {
        let device = self.device.map(|device| format!(" of {device}"));
        let (flag, held) = (self.kind.flag(), self.quantity().text);
        let device = device.unwrap_or_default();
        format!("{flag}{device} {held} of {}", self.link.cgroup)
    }
}
