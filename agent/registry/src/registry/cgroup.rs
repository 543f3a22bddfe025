//! One cgroup of the registry.

use std::sync::Arc;
use std::time::SystemTime;

use agent_ebpf::{CgroupKey, Counts};
use agent_model::container::{Container, ContainerKind};
use agent_model::limit::Intent;

use crate::claim::Claim;
use crate::life::Life;
use crate::location::Rank;
use crate::path::Runtime;

/// The number of one [`Cgroup`], never reused.
pub(super) type Id = u64;

/// How many removed directories of one cgroup are remembered: more than there are hierarchies.
pub(super) const GONE_AT_MOST: usize = 64;

/// A cgroup: the directories of one path, or of one container, in all hierarchies.
#[derive(Debug)]
pub struct Cgroup {
    /// The container, unit or cgroup that its tasks are attributed to.
    pub container: Arc<Container>,
    /// The container that its path claims, if it claims one.
    pub claim: Option<Claim>,
    /// Whether this is the container's own cgroup, not one below it.
    pub own: bool,
    /// How much its path says about its tasks.
    pub rank: Rank,
    /// The intended limits of the own cgroup of a container or unit, if its engine or systemd has reported them.
    pub intended: Option<Arc<Intent>>,
    /// Its directories in the hierarchies, in the order in which they were made.
    pub directories: Vec<CgroupDirectory>,
    /// When the first of its directories was made.
    pub created: SystemTime,
    /// When the last of its directories was removed; `None` while one exists.
    pub gone: Option<SystemTime>,
    /// The counts of removed directories and of earlier cgroups at this path. Boxed, as most living cgroups have none.
    pub(super) past: Option<Box<Counts>>,
    /// Whether the container runs, and its init process.
    pub life: Life,
    /// Its first directory's path, by which the registry finds it.
    pub(super) path: String,
    /// The user whose record confirms the claim. An engine of root's sets no name for an ordinary user's container,
    /// even one with the same id.
    pub(super) user: u32,
    /// How often the pipeline has looked for a confirmation of the claim because of an event. Of a unit, whether systemd was
    /// asked about it.
    pub(super) looks: u8,
    /// The call of [`super::Registry::unconfirmed`] that last returned the claim.
    pub(super) given: u64,
}

impl Cgroup {
    /// Whether it is a container's own cgroup.
    pub fn is_container(&self) -> bool {
        self.own && self.rank == Rank::Container
    }

    /// Whether it is a unit's own cgroup.
    pub fn is_unit(&self) -> bool {
        self.own && self.container.kind == ContainerKind::Unit
    }

    /// Whether it is the own cgroup of a container or unit, which starts and stops.
    pub(super) fn has_life(&self) -> bool {
        self.is_container() || self.is_unit()
    }

    /// Whether its path claims a container of `agent run`.
    pub(super) fn is_own(&self) -> bool {
        let claim = self.claim.as_ref();
        claim.is_some_and(|claim| claim.runtime == Runtime::Agent)
    }

    /// Whether the cgroup belongs to a confirmed container.
    pub fn is_confirmed(&self) -> bool {
        self.container.confirmed == Some(true)
    }

    /// The ordinary user who owns the container that it belongs to; 0 for root's and engines' containers, and outside of
    /// containers.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// The keys of its directories that exist.
    pub fn living(&self) -> impl Iterator<Item = CgroupKey> {
        let living = self.directories.iter().filter(|it| !it.gone);
        living.map(|directory| directory.key)
    }

    /// The paths by which the registry finds it.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let directories = self.directories.iter().map(|it| &*it.path);
        directories.chain([&*self.path])
    }

    /// Adds its directory in one more hierarchy. Directories with the same path share the text.
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

    /// Forgets the oldest removed directories if there are too many: a program may make and remove one path in one
    /// hierarchy again and again while it exists in another.
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
    /// Its hierarchy and id.
    pub key: CgroupKey,
    /// Its path from the hierarchy's root.
    pub path: Arc<str>,
    /// Whether the kernel has removed it.
    pub gone: bool,
    pub(super) populated: bool,
}
