//! The limits of the caller's own cgroups, which must bind what the caller starts.

use std::path::Path;

use agent_host::hierarchy::Hierarchies;
use agent_host::membership::Membership;
use agent_limits::limit::bound::Standing;
use agent_limits::limits::{Limits, bounds};
use agent_model::container::Container;
use agent_model::limit::{Bound, Bounds};
use agent_registry::path::Runtime;

use super::claim::LimitClaim;
use super::judge::unknown;
use super::report::Check;

/// The limits of a caller, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct CallerLimits {
    bounds: Bounds,
    /// Whether the limits must bind what the caller starts.
    binds: bool,
    /// Whether limits must bind the container and its record does not say which.
    unsaid: bool,
}

/// The name of a check where not even the kinds of the limits are known.
const ANY: &str = "limits";

impl CallerLimits {
    /// Reads the limits of this process, which is about to start a container. They do not have to bind it.
    ///
    /// # Errors
    /// The cgroups of this process, or the host's hierarchies, cannot be found.
    pub fn here() -> Result<Self, agent_host::Error> {
        let root = Path::new("/");
        let hierarchies = Hierarchies::discover(root)?;
        Ok(Self {
            bounds: bounds(&hierarchies, &Membership::own(root)?),
            ..Self::default()
        })
    }

    /// Makes the limits of a caller that must bind what it starts.
    pub fn binding(bounds: &Bounds) -> Self {
        Self {
            bounds: bounds.clone(),
            binds: true,
            unsaid: false,
        }
    }

    /// Makes the limits of a caller that must bind a container, where the container's record does not say which they
    /// were.
    fn unsaid() -> Self {
        Self {
            unsaid: true,
            ..Self::default()
        }
    }

    /// Returns the limits that a container of `agent run` was started under, by the record of the container.
    pub fn of_container(container: &Container, bounds: Option<&Bounds>) -> Self {
        let is_agents = container.runtime == Runtime::Agent.name();
        match bounds {
            Some(bounds) => Self::binding(bounds),
            None if container.confirmed == Some(true) && is_agents => Self::unsaid(),
            None => Self::default(),
        }
    }

    /// Adds a claim for each known limit of the caller that must hold.
    pub fn beside(&self, mut claims: Vec<LimitClaim>) -> Vec<LimitClaim> {
        let bounds = self.bounds.known.iter().filter(|_| self.binds);
        claims.extend(bounds.map(LimitClaim::of_caller));
        claims
    }

    /// Returns an inconclusive check for each limit of the caller that must hold and is not known.
    pub fn unknown(&self) -> Vec<Check> {
        let all = self.bounds.unknown.iter().filter(|_| self.binds);
        let all = all.map(|it| {
            let reason = format!("what its caller was under cannot be read: {}", it.why);
            unknown(it.kind.flag(), reason)
        });
        let unsaid = self.unsaid.then(|| {
            let reason =
                "its record, which an older agent wrote, does not say what its caller was under";
            unknown(ANY, reason.to_owned())
        });
        all.chain(unsaid).collect()
    }

    /// Returns a note with the caller's limits that do not bind the container, where they do not have to. `None` where
    /// all of them bind it, or have to.
    pub fn note(&self, limits: &Limits<'_>) -> Option<String> {
        if self.binds {
            return None;
        }
        let mut place = None;
        let mut is_left = |bound: &Bound| {
            let Ok(chain) = limits.chain(bound.kind, bound.device) else {
                return false;
            };
            let own = chain.own.as_ref().ok().map(|own| own.cgroup.clone());
            let left = !matches!(chain.standing(bound), Standing::Holds(_));
            place = place.take().or(own.filter(|_| left));
            left
        };
        let left = self.bounds.known.iter().filter(|bound| is_left(bound));
        let left: Vec<String> = left.map(Bound::words).collect();
        (!left.is_empty()).then(|| {
            let place = place.unwrap_or_default();
            format!(
                "in {place} these limits of the caller do not bind it: {}; --cgroup-parent chooses another place",
                left.join(", ")
            )
        })
    }
}

/// Merges the checks of the same limit of the caller, where several containers were started. The worst verdict remains;
/// among equal ones, one with a workload that pressed against the limit.
pub fn once(checks: Vec<Check>) -> Vec<Check> {
    let mut all: Vec<Check> = Vec::new();
    for check in checks {
        let same = all.iter_mut().find(|it| it.caller && is_same(it, &check));
        match same {
            Some(it) if rank(&check) > rank(it) => *it = check,
            Some(_) => {}
            None => all.push(check),
        }
    }
    all
}

fn is_same(one: &Check, other: &Check) -> bool {
    let of = |check: &Check| check.intended.as_ref().and_then(|it| it.cgroup.clone());
    other.caller && (one.limit, &one.device) == (other.limit, &other.device) && of(one) == of(other)
}

fn rank(check: &Check) -> (super::report::Verdict, bool) {
    let pressed = check.stimulus.as_ref().is_some_and(|it| it.pressed);
    (check.verdict, pressed)
}
