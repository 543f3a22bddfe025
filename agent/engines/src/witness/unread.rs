//! Records that exist and cannot be used: they are too long, another user can write to them, or their format is wrong.
//! Their content is unknown, which is not the same as no record.

use std::path::PathBuf;

use agent_registry::claim::Claim;
use agent_registry::path::Runtime;

use super::{Records, own, record_paths};

impl Records {
    /// The path of a record on the claimed container that exists and cannot be used.
    pub fn unread(&self, claim: &Claim) -> Option<PathBuf> {
        let owner = self.hierarchies.owner_of(&claim.cgroup);
        let user = owner.filter(|user| *user != 0);
        let mut users = [Some(0), user].into_iter().flatten();
        users.find_map(|user| match claim.runtime {
            Runtime::Agent => own::unread(&self.root, claim, user),
            _ => {
                let places = record_paths::of(&self.root, &self.docker_root(), claim, user);
                places.iter().find_map(record_paths::RecordPath::unread)
            }
        })
    }
}
