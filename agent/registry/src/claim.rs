//! What a cgroup's path claims, and what confirms it.
//!
//! Who may make cgroups below some cgroup chooses their names, so a path that has an engine's form is a claim and no
//! identity. A claim is confirmed by a record that only its owner can write: the state of `agent run`, the engine's
//! answer, or what the engine's launcher leaves in `/run`. Records are read elsewhere; here are their words.

use std::fmt;
use std::sync::Arc;

use agent_limits::limit::Intent;
use agent_limits::limit::bound::Bounds;

use super::path::{PathIdentity, Runtime, identify};
use super::registry::names::Named;

/// A container that a cgroup's path names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    pub runtime: Runtime,
    /// The engine's full id, or the name where the engine goes by names.
    pub id: String,
    /// The container's own cgroup, as the path has it.
    pub cgroup: String,
}

impl Claim {
    /// The claim of a cgroup at `path`, or of the container's cgroup that it is below.
    pub fn of(path: &str) -> Option<Self> {
        let place = identify(readable(path));
        let PathIdentity::Container { runtime, id, .. } = place.identity else {
            return None;
        };
        let cgroup = place.cgroup.to_owned();
        Some(Self {
            runtime,
            id,
            cgroup,
        })
    }

    /// Whether the cgroup at `path` is the claimed one, or below it.
    pub fn covers(&self, path: &str) -> bool {
        let below = readable(path).strip_prefix(&*self.cgroup);
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }
}

/// A path without the second slash that stands before one with bytes that are not UTF-8 (`host::path`). What is below a
/// container's cgroup is the container's, whatever its name.
pub(super) fn readable(path: &str) -> &str {
    let odd = path.strip_prefix('/').filter(|path| path.starts_with('/'));
    odd.unwrap_or(path)
}

/// A claim that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    pub id: String,
    /// Whose record it is. A user calls their containers what they like.
    pub user: u32,
    /// The container's own cgroups: mostly one path, the same in all hierarchies. The first is the claimed one.
    pub cgroups: Vec<String>,
    /// A process of the container, as the record has it: its first one.
    pub process: Option<u32>,
    /// What the container is called, where the record says it.
    pub named: Option<Named>,
    /// What its limits are meant to be, likewise.
    pub intended: Option<Arc<Intent>>,
    /// The limits of its caller that it is to be under, likewise.
    pub bounds: Option<Arc<Bounds>>,
}

impl Confirmation {
    /// What confirms `claim` and says no more.
    pub fn of(claim: &Claim) -> Self {
        Self {
            id: claim.id.clone(),
            user: 0,
            cgroups: vec![claim.cgroup.clone()],
            process: None,
            named: None,
            intended: None,
            bounds: None,
        }
    }

    /// The same with the claimed cgroup as the first; `None` where it is none of them.
    pub fn first(mut self, claim: &Claim) -> Option<Self> {
        let at = self.cgroups.iter().position(|it| *it == claim.cgroup)?;
        self.cgroups.swap(0, at);
        Some(self)
    }
}

type ConfirmClaim = dyn Fn(&Claim) -> Option<Confirmation> + Send + Sync;

/// Who is asked about a claim. It reads files, so nobody asks it who holds the registry.
#[derive(Clone)]
pub struct Witnesses(Arc<ConfirmClaim>);

impl Witnesses {
    pub fn new(look: impl Fn(&Claim) -> Option<Confirmation> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    /// What confirms `claim`; `None` where nothing does.
    pub fn confirm(&self, claim: &Claim) -> Option<Confirmation> {
        (self.0)(claim)
    }

    /// What confirms each of `claims` that is confirmed.
    pub fn confirm_all(&self, claims: &[Claim]) -> Vec<Confirmation> {
        claims.iter().filter_map(|it| self.confirm(it)).collect()
    }
}

impl fmt::Debug for Witnesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witnesses")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_covers_what_is_below_it_and_nothing_beside() {
        let claim = Claim::of("/a/agent/web/below").unwrap();
        assert_eq!((&*claim.id, &*claim.cgroup), ("web", "/a/agent/web"));
        for path in ["/a/agent/web", "/a/agent/web/x", "//a/agent/web/\\xff"] {
            assert!(claim.covers(path), "{path}");
        }
        for path in ["/a/agent", "/a/agent/webs", "/agent/web", "/"] {
            assert!(!claim.covers(path), "{path}");
        }
        assert_eq!(Claim::of("/a/b"), None);
    }
}
