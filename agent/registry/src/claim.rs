//! What a cgroup's path claims, and what confirms it.
//!
//! A user who may make cgroups chooses their names, so a path in an engine's form is only a claim. A record that only
//! its owner can write confirms it: the state of `agent run`, the engine's answer, or what the engine's launcher leaves
//! in `/run`. Another crate reads these records; this module has the types.

use std::fmt;
use std::sync::Arc;

use agent_model::labels::{ContainerLabels, PodName};
use agent_model::limit::{Bounds, Intent};

use super::path::{PathIdentity, Runtime, identify};

/// A container that a cgroup's path names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The engine that uses this form of path.
    pub runtime: Runtime,
    /// The engine's full id, or the name if the engine identifies containers by name.
    pub id: String,
    /// The path of the container's own cgroup.
    pub cgroup: String,
}

impl Claim {
    /// The claim that `path` makes. A path below a container's cgroup makes the container's claim.
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

    /// Whether the cgroup at `path` is the claimed one or below it.
    pub fn covers(&self, path: &str) -> bool {
        let below = readable(path).strip_prefix(&*self.cgroup);
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }
}

/// A path without its second slash. `host::path` puts one before a path with bytes that are not UTF-8; such a cgroup below
/// a container's still belongs to the container.
pub(super) fn readable(path: &str) -> &str {
    let odd = path.strip_prefix('/').filter(|path| path.starts_with('/'));
    odd.unwrap_or(path)
}

/// The contents of a record that confirms a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The container's id, as in the claim.
    pub id: String,
    /// The user who owns the record. An ordinary user may give a container any name.
    pub user: u32,
    /// The paths of the container's own cgroups: usually one, the same in all hierarchies. The first is the claimed
    /// one.
    pub cgroups: Vec<String>,
    /// The host pid of the container's init process, if the record has it.
    pub process: Option<u32>,
    /// The container's name, image, labels and pod, if the record has them.
    pub named: Option<Named>,
    /// The intended limits, if the record has them.
    pub intended: Option<Arc<Intent>>,
    /// The limits of the container's caller that apply to it too, if the record has them.
    pub bounds: Option<Arc<Bounds>>,
}

impl Confirmation {
    /// A confirmation of `claim` without further details.
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

    /// Moves the claimed cgroup to the front. Returns `None` if the confirmation does not name it.
    pub fn first(mut self, claim: &Claim) -> Option<Self> {
        let at = self.cgroups.iter().position(|it| *it == claim.cgroup)?;
        self.cgroups.swap(0, at);
        Some(self)
    }
}

/// An engine's name, image, labels, pod and run state of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The name; empty: the engine did not report it.
    pub name: String,
    /// The image; empty: the engine did not report it.
    pub image: String,
    /// The labels that are kept.
    pub labels: ContainerLabels,
    /// The names in Kubernetes, if the container is in a pod.
    pub pod: Option<PodName>,
    /// Whether the container runs.
    pub run: RunState,
}

impl Named {
    /// Takes from `other` what this does not have.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let text = |own: String, other: String| if own.is_empty() { other } else { own };
        Self {
            name: text(self.name, other.name),
            image: text(self.image, other.image),
            labels: match self.labels.is_empty() {
                true => other.labels,
                false => self.labels,
            },
            pod: self.pod.or(other.pod),
            run: match self.run {
                RunState::Unreported => other.run,
                reported => reported,
            },
        }
    }
}

/// Whether a container runs, as its engine last reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunState {
    /// The engine did not report it.
    #[default]
    Unreported,
    /// The engine made the container and never started it.
    Never,
    /// It runs.
    Started,
    /// Its init process has ended.
    Ended,
}

type ConfirmClaim = dyn Fn(&Claim) -> Option<Confirmation> + Send + Sync;

/// The function that looks for records which confirm a claim. It reads files: call it without the registry's lock.
#[derive(Clone)]
pub struct Witnesses(Arc<ConfirmClaim>);

impl Witnesses {
    /// Wraps the function.
    pub fn new(look: impl Fn(&Claim) -> Option<Confirmation> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    /// What confirms `claim`; `None` if no record does.
    pub fn confirm(&self, claim: &Claim) -> Option<Confirmation> {
        (self.0)(claim)
    }

    /// The confirmations of those of `claims` that a record confirms.
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
