//! The limits that a process is under: those of its cgroups, and of the cgroups above them. What it starts is to be under
//! them too.

use agent_host::hierarchy::Version;
use serde::{Deserialize, Serialize};

use super::chain::{Chain, Link};
use super::{Device, Kind, Quantity};

/// The limits that a process was under at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Of each kind that is limited the tightest; of a rate one for each device.
    pub known: Vec<Bound>,
    pub unknown: Vec<Unknown>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    pub kind: Kind,
    pub device: Option<Device>,
    pub version: Version,
    /// The cgroup that has the limit, and what the limit was.
    pub link: Link,
}

/// A limit that may be there, and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    pub kind: Kind,
    pub why: String,
}

/// How a bound stands for a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// The cgroup is at or below the one that has the limit, or below another one with a limit that is as tight.
    Holds(&'a Link),
    /// The cgroup that has the limit is above it still, and its limit has become looser.
    Loosened(&'a Link),
    /// The cgroup is below the one that has the limit, and limits of this kind do not reach those below.
    Flat,
    /// The cgroup is elsewhere.
    Outside,
}

impl Bound {
    /// What the limit was, with its unit.
    pub fn quantity(&self) -> Quantity {
        Quantity::of_held(self.kind, self.version, &self.link.held)
    }

    /// How it stands for the cgroup whose limits of this kind are `chain`. A limit of the cgroup's own says nothing: others
    /// that are started beside it are not under that one.
    pub fn standing<'a>(&self, chain: &'a Chain) -> Standing<'a> {
        let links = || chain.own.iter().chain(&chain.above);
        let holds = |link: &Link| !self.link.is_tighter_than(Some(&link.held));
        let same = links().find(|link| link.cgroup == self.link.cgroup);
        let alike = chain.above.iter().find(|link| holds(link));
        match (same, alike) {
            (Some(same), _) if holds(same) => Standing::Holds(same),
            (_, Some(alike)) => Standing::Holds(alike),
            (Some(same), None) => Standing::Loosened(same),
            (None, None) => match &chain.own {
                Ok(own) if is_below(&own.cgroup, &self.link.cgroup) => Standing::Flat,
                _ => Standing::Outside,
            },
        }
    }

    /// Its limit, and whose it is, in a few words.
    pub fn words(&self) -> String {
        let device = self.device.map(|device| format!(" of {device}"));
        let (flag, held) = (self.kind.flag(), self.quantity().text);
        let device = device.unwrap_or_default();
        format!("{flag}{device} {held} of {}", self.link.cgroup)
    }
}

fn is_below(path: &str, cgroup: &str) -> bool {
    let below = path.strip_prefix(cgroup.trim_end_matches('/'));
    below.is_some_and(|below| below.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use agent_host::cgroup::Limit;

    use super::*;
    use crate::limit::Held;

    fn link(cgroup: &str, limit: Limit) -> Link {
        Link {
            cgroup: cgroup.to_owned(),
            file: PathBuf::new(),
            text: String::new(),
            held: Held::Amount(limit),
        }
    }

    fn chain(own: Link, above: Vec<Link>) -> Chain {
        Chain {
            kind: Kind::Memory,
            version: Version::V2,
            device: None,
            own: Ok(own),
            above,
        }
    }

    #[test]
    fn a_bound_holds_below_its_cgroup_or_below_one_as_tight() {
        let bound = Bound {
            kind: Kind::Memory,
            device: None,
            version: Version::V2,
            link: link("/u/s", Limit::Value(40)),
        };
        let of = |path: &str, own: Limit, above: [(&str, Limit); 2]| {
            let above = above.map(|(cgroup, limit)| link(cgroup, limit));
            let chain = chain(link(path, own), above.to_vec());
            match bound.standing(&chain) {
                Standing::Holds(link) => format!("holds by {}", link.cgroup),
                Standing::Loosened(link) => format!("{} is looser", link.cgroup),
                other => format!("{other:?}"),
            }
        };
        let (max, value) = (Limit::Max, Limit::Value);
        for (path, own, above, wanted) in [
            (
                "/u/s/c",
                max,
                [("/u/s", value(40)), ("/u", max)],
                "holds by /u/s",
            ),
            (
                "/u/s/c",
                value(9),
                [("/u/s", value(30)), ("/u", max)],
                "holds by /u/s",
            ),
            (
                "/u/s/c",
                max,
                [("/u/s", value(50)), ("/u", max)],
                "/u/s is looser",
            ),
            (
                "/u/s/c",
                max,
                [("/u/s", value(50)), ("/u", value(40))],
                "holds by /u",
            ),
            (
                "/u/m/c",
                max,
                [("/u/m", max), ("/u", value(40))],
                "holds by /u",
            ),
            // Its own limit binds it alone.
            (
                "/u/m/c",
                value(9),
                [("/u/m", max), ("/u", value(41))],
                "Outside",
            ),
            (
                "/u/s",
                value(40),
                [("/u", max), ("/", max)],
                "holds by /u/s",
            ),
        ] {
            assert_eq!(of(path, own, above), wanted, "{path} {above:?}");
        }
        let flat = chain(link("/u/s/c", max), Vec::new());
        assert_eq!(bound.standing(&flat), Standing::Flat);
        let beside = chain(link("/u/sc", max), Vec::new());
        assert_eq!(bound.standing(&beside), Standing::Outside);
    }
}
