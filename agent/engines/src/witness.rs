//! Confirms claims by the records that a container's maker leaves, and reads what they have on the container: its
//! names, labels and intended limits. A record belongs to root, or to the user who owns the container's cgroup.
//!
//! The witness opens a record without following links and without waiting, and refuses one that is too long. A record
//! of root's confirms any cgroup. A record of another user's confirms only a cgroup that is delegated to that user,
//! whose directory nobody else can own. A confirmation reads about fifteen files at most, so it is meant for a container's
//! birth and for commands.

pub mod ask;
mod bundle;
mod described;
pub mod engine;
mod evidence;
mod file;
pub mod own;
mod record_paths;
mod sqlite;
mod stored;
mod unread;

use std::path::PathBuf;
use std::sync::Arc;

use agent_host::faults::{Guard, guarded};
use agent_host::hierarchy::Hierarchies;
use agent_host::membership::Membership;
use agent_model::labels::LabelPatterns;
use agent_registry::claim::{Claim, Confirmation};
use agent_registry::path::Runtime;
pub use own::Intents;
use stored::PodmanNames;

use crate::docker::DockerState;

/// The default directory of the records of dockerd and its containerd.
const DOCKER: &str = "/run/docker";

/// Reads records.
#[derive(Debug)]
pub struct Records {
    /// The root of the host's files.
    root: PathBuf,
    hierarchies: Hierarchies,
    intents: Intents,
    /// The connection to docker, which knows docker's directory of records.
    docker: Option<Arc<DockerState>>,
    /// The labels that are kept.
    labels: LabelPatterns,
    stores: own::Stores,
    podman: PodmanNames,
}

impl Records {
    /// Reads records of containers in `hierarchies`, and keeps the labels that `labels` allows.
    pub fn new(
        hierarchies: Hierarchies,
        intents: Intents,
        docker: Option<Arc<DockerState>>,
        labels: LabelPatterns,
    ) -> Self {
        Self {
            root: hierarchies.root().to_owned(),
            hierarchies,
            intents,
            docker,
            labels,
            stores: own::Stores::default(),
            podman: PodmanNames::default(),
        }
    }

    /// What confirms `claim`; `None` if no record does.
    pub fn confirm(&self, claim: &Claim) -> Option<Confirmation> {
        if !guarded(Guard::Identity) {
            return Some(Confirmation::of(claim));
        }
        let owner = self.hierarchies.owner_of(&claim.cgroup);
        let user = owner.filter(|user| *user != 0);
        let mut users = [Some(0), user].into_iter().flatten();
        users.find_map(|user| {
            let mut confirmation = self.confirm_by(user, claim)?;
            confirmation.user = user;
            // A user's record may name other users' cgroups too.
            let is_theirs = |path: &String| self.hierarchies.owner_of(path) == Some(user);
            confirmation
                .cgroups
                .retain(|path| user == 0 || is_theirs(path));
            Some(confirmation)
        })
    }

    /// What a record of `user` confirms.
    fn confirm_by(&self, user: u32, claim: &Claim) -> Option<Confirmation> {
        if claim.runtime == Runtime::Agent {
            let (intents, labels) = (self.intents, &self.labels);
            return self
                .stores
                .confirm(&self.root, claim, user, intents, labels);
        }
        let places = record_paths::of(&self.root, &self.docker_root(), claim, user);
        places.into_iter().find_map(|place| {
            let evidence = place.read()?;
            let confirmation = evidence.confirm(claim, &self.root, &self.hierarchies)?;
            Some(self.described(confirmation, claim.runtime, &evidence, user))
        })
    }

    fn docker_root(&self) -> PathBuf {
        let told = self.docker.as_ref().and_then(|state| state.exec_root());
        told.unwrap_or_else(|| PathBuf::from(DOCKER))
    }
}

/// What the cgroups of the init process of container `id` confirm. The cgroups in an engine's form with this id are the
/// container's own; where they are nested, the outermost is. `None` if there is none.
fn confirm_by_process(id: &str, process: u32, membership: &Membership) -> Option<Confirmation> {
    let claims = membership.paths().filter_map(|(_, path)| Claim::of(path));
    let mut claims = claims.filter(|claim| claim.id == id);
    let mut confirmation = Confirmation {
        process: Some(process),
        ..Confirmation::of(&claims.next()?)
    };
    for claim in claims {
        if !confirmation.cgroups.contains(&claim.cgroup) {
            confirmation.cgroups.push(claim.cgroup);
        }
    }
    Some(confirmation)
}

#[cfg(test)]
mod tests;
