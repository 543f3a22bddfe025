//! The names, images, labels, pods and intended limits that engines report, by container id. The registry remembers them for
//! containers that exist, or that were removed within [`DEAD_FOR`], whether it knows their cgroup or not.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use agent_model::container::Container;
use agent_model::limit::Intent;
use agent_model::text::cut;

use super::{Cgroup, DEAD_FOR, Registry};
use crate::claim::Confirmation;
pub use crate::claim::{Named, RunState};

/// The most containers whose names the registry remembers, also removed ones.
pub const NAMES_AT_MOST: usize = 16_384;

/// What an engine reports. Containers are named by their full ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineMessage {
    /// A container has this name, image and state.
    Named(String, Named),
    /// A container that was named has these intended limits.
    Intended(String, Arc<Intent>),
    /// A container runs, and these are its own cgroups.
    Confirmed(Confirmation),
    /// A container's init process has ended.
    Ended(String),
    /// The engine removed a container.
    Removed(String),
    /// All containers that the engine has.
    All(Vec<(String, Named)>),
}

/// Names by id.
#[derive(Debug, Default)]
pub(super) struct EngineNames {
    by_id: HashMap<String, NamedEntry>,
    /// The removed containers, in the order of removal.
    removed: VecDeque<(Instant, String)>,
    refused: u64,
}

#[derive(Debug)]
struct NamedEntry {
    named: Named,
    intended: Option<Arc<Intent>>,
    removed: Option<Instant>,
}

impl EngineNames {
    pub(super) fn get(&self, id: &str) -> Option<&Named> {
        Some(&self.by_id.get(cut(id))?.named)
    }

    pub(super) fn intended(&self, id: &str) -> Option<Arc<Intent>> {
        self.by_id.get(cut(id))?.intended.clone()
    }

    fn intend(&mut self, id: &str, intent: &Arc<Intent>) {
        if let Some(entry) = self.by_id.get_mut(cut(id)) {
            entry.intended = Some(Arc::clone(intent));
        }
    }

    /// Sets a name, and returns whether it differs from the one before.
    fn set(&mut self, id: &str, named: Named, now: Instant) -> bool {
        let id = cut(id);
        let named = Named {
            name: cut(&named.name).to_owned(),
            image: cut(&named.image).to_owned(),
            ..named
        };
        if let Some(entry) = self.by_id.get_mut(id) {
            entry.removed = None;
            let run = match named.run {
                RunState::Unreported => entry.named.run,
                reported => reported,
            };
            let named = Named { run, ..named };
            let differs = entry.named != named;
            entry.named = named;
            return differs;
        }
        self.forget(now);
        if self.by_id.len() >= NAMES_AT_MOST {
            self.refused += 1;
            return false;
        }
        let entry = NamedEntry {
            named,
            intended: None,
            removed: None,
        };
        self.by_id.insert(id.to_owned(), entry);
        true
    }

    fn end(&mut self, id: &str) {
        if let Some(entry) = self.by_id.get_mut(cut(id)) {
            entry.named.run = RunState::Ended;
        }
    }

    fn remove(&mut self, id: &str, now: Instant) {
        let id = cut(id);
        if let Some(entry) = self.by_id.get_mut(id)
            && entry.removed.is_none()
        {
            entry.removed = Some(now);
            self.removed.push_back((now, id.to_owned()));
        }
    }

    /// Marks the containers that are not in the list as removed.
    fn remove_others(&mut self, all: &[(String, Named)], now: Instant) {
        let all: HashSet<&str> = all.iter().map(|(id, _)| cut(id)).collect();
        let known = self.by_id.keys();
        let others = known.filter(|id| !all.contains(&***id)).cloned();
        for id in others.collect::<Vec<_>>() {
            self.remove(&id, now);
        }
    }

    /// Forgets containers that were removed long ago, and the oldest removed ones when there is no room for one more.
    fn forget(&mut self, now: Instant) {
        while let Some((removed, id)) = self.removed.front() {
            let is_old = now.duration_since(*removed) >= DEAD_FOR;
            if !is_old && self.by_id.len() < NAMES_AT_MOST && self.removed.len() < NAMES_AT_MOST {
                return;
            }
            // The engine may have named the container again since then.
            let entry = self.by_id.get(id);
            if entry.is_some_and(|entry| entry.removed == Some(*removed)) {
                self.by_id.remove(id);
            }
            self.removed.pop_front();
        }
    }
}

impl Registry {
    /// Applies an engine's message. Confirmed containers, living or removed, get a name at once; the others get it when
    /// they are confirmed.
    pub fn apply(&mut self, message: EngineMessage, now: Instant) {
        match message {
            EngineMessage::Named(id, named) => {
                if self.names.set(&id, named, now) {
                    self.set_names(|container| container.id == id);
                }
            }
            EngineMessage::Intended(id, intent) => {
                self.names.intend(&id, &intent);
                self.intend(&id, &intent);
            }
            EngineMessage::Confirmed(confirmation) => self.confirm([confirmation]),
            EngineMessage::Ended(id) => self.names.end(&id),
            EngineMessage::Removed(id) => self.names.remove(&id, now),
            EngineMessage::All(all) => {
                self.names.remove_others(&all, now);
                for (id, named) in all {
                    self.names.set(&id, named, now);
                }
                self.set_names(|_| true);
            }
        }
        self.names.forget(now);
    }

    /// Sets the intended limits of the container, if it is known and confirmed.
    fn intend(&mut self, id: &str, intent: &Arc<Intent>) {
        for cgroup in self.cgroups.values_mut() {
            if cgroup.is_container() && is_engines(cgroup) && cgroup.container.id == id {
                cgroup.intended = Some(Arc::clone(intent));
            }
        }
    }

    /// Gives the confirmed containers that `concerned` selects the names that the engine reported.
    fn set_names(&mut self, concerned: impl Fn(&Container) -> bool) {
        let users: HashSet<String> = {
            let users = self.cgroups.values().filter(|it| it.user != 0);
            users.map(|it| it.container.cgroup.clone()).collect()
        };
        let cgroups = self.cgroups.values_mut().filter(|it| is_engines(it));
        let cgroups = cgroups.filter(|it| !users.contains(&it.container.cgroup));
        for cgroup in cgroups.filter(|cgroup| concerned(&cgroup.container)) {
            if let Some(named) = self.names.get(&cgroup.container.id)
                && !has_name(&cgroup.container, named)
            {
                set_name(Arc::make_mut(&mut cgroup.container), named);
            }
        }
    }

    /// Whether an engine has the container with this id, running or not; `None` if no engine reported it.
    pub fn engine_has(&self, id: &str) -> Option<bool> {
        let entry = self.names.by_id.get(cut(id))?;
        Some(entry.removed.is_none())
    }

    /// Containers by id that an engine has, that do not run, and of which the registry knows no cgroup, not even a removed
    /// one.
    pub fn without_cgroup(&self) -> Vec<(&str, &Named)> {
        let own = self.all().filter(|it| it.is_container());
        let known: HashSet<&str> = own.map(|it| &*it.container.id).collect();
        let had = self.names.by_id.iter();
        let had = had.filter(|(id, entry)| {
            let is_idle = matches!(entry.named.run, RunState::Never | RunState::Ended);
            is_idle && entry.removed.is_none() && !known.contains(&***id)
        });
        had.map(|(id, entry)| (&**id, &entry.named)).collect()
    }

    /// How many containers an engine has named, those removed a while ago included.
    pub fn named(&self) -> usize {
        self.names.by_id.len()
    }

    /// How many names the registry had no room for.
    pub fn names_refused(&self) -> u64 {
        self.names.refused
    }
}

/// Whether an engine of root's names the container. The state of `agent run` and a user's record do not count.
fn is_engines(cgroup: &Cgroup) -> bool {
    cgroup.is_confirmed() && !cgroup.is_own() && cgroup.user == 0
}

/// Gives a container the name, image, labels and pod that its engine, or a record, reported.
pub(super) fn set_name(container: &mut Container, named: &Named) {
    for (text, reported) in [
        (&mut container.name, &named.name),
        (&mut container.image, &named.image),
    ] {
        if !reported.is_empty() {
            cut(reported).clone_into(text);
        }
    }
    if !named.labels.is_empty() {
        container.labels.clone_from(&named.labels);
    }
    if named.pod.is_some() {
        container.pod.clone_from(&named.pod);
    }
}

fn has_name(container: &Container, named: &Named) -> bool {
    let is_set = |text: &str, reported: &str| reported.is_empty() || text == reported;
    is_set(&container.name, &named.name)
        && is_set(&container.image, &named.image)
        && (named.labels.is_empty() || container.labels == named.labels)
        && (named.pod.is_none() || container.pod == named.pod)
}

#[cfg(test)]
mod tests;
