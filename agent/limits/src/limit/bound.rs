//! Tells whether a limit that binds a process also binds a cgroup.

use agent_model::limit::{Bound, Link};

use super::chain::Chain;

/// Whether, and how, a bound holds for a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// The bound holds. The cgroup is the one that has the limit, or is below it, or is below another one whose limit
    /// is at least as tight. The link is the limit that makes it hold.
    Holds(&'a Link),
    /// The cgroup that has the limit is the cgroup itself or an ancestor, and its limit is looser now. The link is the
    /// limit as it is now.
    Loosened(&'a Link),
    /// The cgroup is below the one that has the limit, but a limit of this kind does not bind descendants
    /// ([`Kind::is_inherited`](agent_model::limit::Kind::is_inherited)).
    Flat,
    /// The cgroup is not below the one that has the limit.
    Outside,
}

impl Chain {
    /// Tells whether `bound`, which is of the kind of this chain, holds for the cgroup.
    ///
    /// The cgroup's own limit makes a bound hold only if the bound is of this very cgroup: the own limit does not bind
    /// siblings, which the same process may start.
    pub fn standing<'a>(&'a self, bound: &Bound) -> Standing<'a> {
        let links = || self.own.iter().chain(&self.above);
        let holds = |link: &Link| !bound.link.is_tighter_than(Some(&link.held));
        let same = links().find(|link| link.cgroup == bound.link.cgroup);
        let alike = self.above.iter().find(|link| holds(link));
        match (same, alike) {
            (Some(same), _) if holds(same) => Standing::Holds(same),
            (_, Some(alike)) => Standing::Holds(alike),
            (Some(same), None) => Standing::Loosened(same),
            (None, None) => match &self.own {
                Ok(own) if is_below(&own.cgroup, &bound.link.cgroup) => Standing::Flat,
                _ => Standing::Outside,
            },
        }
    }
}

fn is_below(path: &str, cgroup: &str) -> bool {
    let below = path.strip_prefix(cgroup.trim_end_matches('/'));
    below.is_some_and(|below| below.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use agent_model::hierarchy::Version;
    use agent_model::limit::{Held, Kind, Limit};

    use super::*;

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
            match chain.standing(&bound) {
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
            // A cgroup's own limit does not bind its siblings.
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
        assert_eq!(flat.standing(&bound), Standing::Flat);
        let beside = chain(link("/u/sc", max), Vec::new());
        assert_eq!(beside.standing(&bound), Standing::Outside);
    }
}
