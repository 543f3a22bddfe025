//! One cgroup of the registry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use agent_ebpf::{CgroupKey, Counts};
use agent_limits::limit::Intent;
use agent_model::container::Container;

use crate::claim::Claim;
use crate::life::Life;
use crate::location::Rank;
use crate::path::Runtime;

/// Directories of one cgroup that are gone and still known: more than there are hierarchies.
pub(super) const GONE_AT_MOST: usize = 64;

/// A cgroup as people see it: the directories of one path, or of one container, in all
/// hierarchies.
#[derive(Debug)]
pub struct Cgroup {
    /// What its tasks are in.
    pub container: Arc<Container>,
    /// Which container its path claims, where it is in one.
    pub claim: Option<Claim>,
    /// Whether this is the container's own cgroup, not one below it.
    pub own: bool,
    pub rank: Rank,
    /// What a container's own limits are meant to be, where whoever made it says so.
    pub intended: Option<Arc<Intent>>,
    /// Where it is in each hierarchy, in the order of birth.
    pub directories: Vec<CgroupDirectory>,
    pub created: SystemTime,
    /// When it was last seen alive; `None` while it is.
    pub gone: Option<SystemTime>,
    /// Boxed: most of the living have none.
    pub(super) past: Option<Box<Counts>>,
    pub life: Life,
    /// Its first directory's path, by which the registry finds it.
    pub(super) path: String,
    /// Whose record confirms the claim of the container that it is, or is below. What an engine of root's says of an id is not said of it where
    /// that is another user.
    pub(super) user: u32,
    /// How often somebody looked for what confirms its claim, as the kernel's events told of it.
    pub(super) looks: u8,
    /// When the claim was last given to somebody who looks again, counted by such looks.
    pub(super) given: u64,
}

impl Cgroup {
    /// Whether it is a container's own.
    pub fn is_container(&self) -> bool {
        self.own && self.rank == Rank::Container
    }

    /// Whether `agent run` made it, by its claim.
    pub(super) fn is_own(&self) -> bool {
        let claim = self.claim.as_ref();
        claim.is_some_and(|claim| claim.runtime == Runtime::Agent)
    }

    /// Whether it belongs to a container that is confirmed.
    pub fn is_confirmed(&self) -> bool {
        self.container.confirmed == Some(true)
    }

    /// The ordinary user whose container it is or is below; 0 for root's, an engine's, and what is in none.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// What was counted in it so far; `counts` is what the kernel side has counted in the living.
    pub fn counted(&self, counts: &HashMap<CgroupKey, Counts>) -> Counts {
        let living = self.directories.iter();
        let living = living.filter_map(|directory| counts.get(&directory.key));
        living.fold(self.past(), |mut sum, counts| {
            sum.add(counts);
            sum
        })
    }

    /// What was counted in directories that are gone, and under its path before it.
    pub fn past(&self) -> Counts {
        self.past.as_deref().copied().unwrap_or_default()
    }

    /// The keys of its directories that are not gone.
    pub fn living(&self) -> impl Iterator<Item = CgroupKey> {
        let living = self.directories.iter().filter(|it| !it.gone);
        living.map(|directory| directory.key)
    }

    /// The paths by which the registry finds it.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let directories = self.directories.iter().map(|it| &*it.path);
        directories.chain([&*self.path])
    }

    /// It is in one more hierarchy, in most of them by the same path.
    pub(super) fn add_directory(&mut self, key: CgroupKey, path: &str) {
        let mut known = self.directories.iter().map(|directory| &directory.path);
        let known = known.find(|known| ***known == *path).cloned();
        let directory = CgroupDirectory {
            key,
            path: known.unwrap_or_else(|| path.into()),
            gone: false,
            populated: false,
        };
        self.directories.reserve_exact(1);
        self.directories.push(directory);
    }

    /// Forgets the oldest of the directories that are gone, where one path is made and removed in
    /// one hierarchy again and again while it stays in another.
    pub(super) fn forget_directories(&mut self) -> Vec<CgroupDirectory> {
        let gone = self.directories.iter().filter(|directory| directory.gone);
        let mut surplus = gone.count().saturating_sub(GONE_AT_MOST);
        let mut forgotten = Vec::new();
        self.directories.retain(|directory| {
            let forget = directory.gone && surplus > 0;
            if forget {
                surplus -= 1;
                forgotten.push(directory.clone());
            }
            !forget
        });
        forgotten
    }
}

/// A cgroup's directory in one hierarchy.
#[derive(Clone, Debug)]
pub struct CgroupDirectory {
    pub key: CgroupKey,
    pub path: Arc<str>,
    pub gone: bool,
    pub(super) populated: bool,
}
