//! Confirmed claims: a confirmed container has its id, its name and all of its cgroups.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use agent_ebpf::Task;
use agent_model::container::Container;

use super::names::set_name;
use super::{Cgroup, Id, Registry};
use crate::claim::{Claim, Confirmation};
use crate::location::short;

/// How often events make the pipeline look for a confirmation of one claim.
const LOOKS_AT_MOST: u8 = 8;

impl Registry {
    /// Whether the pipeline has not yet looked for a confirmation of the cgroup at `path`. Marks it as looked for.
    pub fn is_new_claim(&mut self, path: &str) -> bool {
        let Some(id) = self.by_path.get(path) else {
            return true;
        };
        let cgroup = self.cgroups.get_mut(id);
        cgroup.is_none_or(|cgroup| {
            let is_new = cgroup.is_container() && cgroup.looks == 0;
            cgroup.looks = cgroup.looks.max(1);
            is_new
        })
    }

    /// At most `most` claims of living cgroups for which the pipeline has not yet looked for a confirmation. Marks them
    /// as looked for.
    pub fn new_claims(&mut self, most: usize) -> Vec<Claim> {
        let cgroups = self.cgroups.values_mut();
        let new = cgroups.filter(|it| it.is_container() && it.gone.is_none() && it.looks == 0);
        let claims = new.take(most).filter_map(|cgroup| {
            cgroup.looks = 1;
            cgroup.claim.clone().filter(|_| !cgroup.is_confirmed())
        });
        claims.collect()
    }

    /// At most `most` unconfirmed claims of living cgroups: those that this method has not returned for the longest time,
    /// the youngest first.
    pub fn unconfirmed(&mut self, most: usize) -> Vec<Claim> {
        self.given += 1;
        let cgroups = self.cgroups.iter_mut();
        let claimed = cgroups.filter(|(_, it)| it.is_container() && it.gone.is_none());
        let claimed = claimed.filter(|(_, it)| !it.is_confirmed());
        let mut claimed: Vec<_> = claimed.collect();
        claimed.sort_unstable_by_key(|(id, it)| (it.given, Reverse(**id)));
        claimed.truncate(most);
        let given = claimed.into_iter().filter_map(|(_, cgroup)| {
            cgroup.given = self.given;
            cgroup.claim.clone()
        });
        given.collect()
    }

    /// The claim of the container that the task is in, if it is unconfirmed. The registry returns it eight times at most,
    /// so that a container that executes many programs does not make the pipeline read files for each.
    pub fn claim_of(&mut self, task: &Task) -> Option<Claim> {
        let container = self.locate(task).container()?;
        let id = self.by_path.get(&container.cgroup)?;
        let cgroup = self.cgroups.get_mut(id)?;
        if !cgroup.is_container() || cgroup.is_confirmed() || cgroup.looks >= LOOKS_AT_MOST {
            return None;
        }
        cgroup.looks += 1;
        cgroup.claim.clone()
    }

    /// How many living containers are confirmed, and how many are not.
    pub fn confirmed_sizes(&self) -> (usize, usize) {
        let confirmed = self.containers().filter(|it| it.is_confirmed()).count();
        (confirmed, self.containers().count() - confirmed)
    }

    /// Confirms claims. The confirmed cgroups that exist and claim the same id become the containers'.
    pub fn confirm(&mut self, confirmations: impl IntoIterator<Item = Confirmation>) {
        let mut changed: HashMap<String, (Arc<Container>, u32)> = HashMap::new();
        for confirmation in confirmations {
            if let Some(main) = self.gather(&confirmation)
                && let Some((cgroup, container)) = self.identified(main, confirmation)
                && container != *cgroup.container
            {
                let user = cgroup.user;
                changed.insert(container.cgroup.clone(), (Arc::new(container), user));
            }
        }
        if changed.is_empty() {
            return;
        }
        // Removed cgroups at these paths were other containers'.
        let living = self.cgroups.values_mut().filter(|it| it.gone.is_none());
        for cgroup in living.filter(|it| it.claim.is_some()) {
            if let Some((container, user)) = changed.get(&cgroup.container.cgroup) {
                cgroup.container = Arc::clone(container);
                cgroup.user = *user;
            }
        }
    }

    /// Joins the cgroups of a container into one, and returns it.
    fn gather(&mut self, confirmation: &Confirmation) -> Option<Id> {
        let found = confirmation.cgroups.iter();
        let found = found.filter_map(|path| self.by_path.get(path.as_str()).copied());
        let claims = |id: &Id| {
            let claim = self.cgroups.get(id).filter(|it| it.is_container());
            let claim = claim.and_then(|it| it.claim.as_ref());
            claim.is_some_and(|claim| claim.id == confirmation.id)
        };
        let found: Vec<Id> = found.filter(claims).collect();
        let (main, others) = found.split_first()?;
        for other in others.iter().filter(|other| *other != main) {
            self.join(*main, *other);
        }
        Some(*main)
    }

    /// Returns the confirmed container with its id, name, image, labels and pod, and its own cgroup. What the engine
    /// reports comes before what the record has: the record is as old as the container.
    fn identified(&mut self, main: Id, confirmation: Confirmation) -> Option<(&Cgroup, Container)> {
        let cgroup = self.cgroups.get_mut(&main)?;
        cgroup.user = confirmation.user;
        let id = Some(&*confirmation.id).filter(|_| !cgroup.is_own() && cgroup.user == 0);
        let reported = id.and_then(|id| self.names.get(id).cloned());
        let intended = id.and_then(|id| self.names.intended(id));
        cgroup.looks = cgroup.looks.max(1);
        let intended = intended.or(confirmation.intended);
        cgroup.intended = intended.or(cgroup.intended.take());
        let mut container = Container::clone(&cgroup.container);
        if !cgroup.is_confirmed() {
            container.name = short(&confirmation.id).to_owned();
            container.id = confirmation.id;
            container.confirmed = Some(true);
        }
        for named in confirmation.named.iter().chain(&reported) {
            set_name(&mut container, named);
        }
        Some((cgroup, container))
    }

    /// Moves everything that the registry has on the cgroup `other` to `main`. Both belong to one container, in
    /// different hierarchies.
    fn join(&mut self, main: Id, other: Id) {
        if main == other {
            return;
        }
        let Some(part) = self.cgroups.remove(&other) else {
            return;
        };
        self.forget_life(other, &part);
        for path in part.paths() {
            self.by_path.insert(path.to_owned(), main);
        }
        for directory in &part.directories {
            self.by_key.insert(directory.key, main);
        }
        let Some(cgroup) = self.cgroups.get_mut(&main) else {
            return;
        };
        cgroup.created = cgroup.created.min(part.created);
        if let Some(past) = &part.past {
            cgroup.past.get_or_insert_default().add(past);
        }
        let (life, joined) = (part.life, part.container);
        cgroup.directories.extend(part.directories);
        let (container, user) = (Arc::clone(&cgroup.container), cgroup.user);
        self.live(main, |cgroup| {
            if !cgroup.life.running() || (cgroup.life.init().is_none() && life.running()) {
                cgroup.life = life;
            }
        });
        for below in self.cgroups.values_mut().filter(|it| it.claim.is_some()) {
            if below.container.cgroup == joined.cgroup {
                below.container = Arc::clone(&container);
                below.user = user;
            }
        }
    }
}
