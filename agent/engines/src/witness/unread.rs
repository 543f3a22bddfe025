//! Records that are there and cannot be read: too long, of somebody else, or not what their writer writes. What one of them
//! says is not known, which is not the same as that nobody says it.

use std::fs;
use std::path::PathBuf;

use agent_registry::claim::Claim;
use agent_registry::path::Runtime;

use super::{Records, own, places};

impl Records {
    /// A record on the claimed container that is there and cannot be read.
    pub fn unread(&self, claim: &Claim) -> Option<PathBuf> {
        let owner = self.hierarchies.owner_of(&claim.cgroup);
        let user = owner.filter(|user| *user != 0);
        let mut users = [Some(0), user].into_iter().flatten();
        users.find_map(|user| match claim.runtime {
            Runtime::Agent => own::unread(&self.root, claim, user),
            _ => {
                let places = places::of(&self.root, &self.docker_root(), claim, user);
                places.iter().find_map(places::RecordPlace::unread)
            }
        })
    }
}

/// Where a file is that could not be read; `None` where it is not there.
pub(super) fn is_there(path: PathBuf) -> Option<PathBuf> {
    fs::symlink_metadata(&path).is_ok().then_some(path)
}
