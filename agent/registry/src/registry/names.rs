//! What engines say of their containers: names, images and intended limits by id, of those that exist and of
//! those removed a little while ago, whether their cgroup is known or not.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use agent_limits::limit::Intent;
use agent_model::container::Container;
use agent_model::text::cut;

use super::{Cgroup, DEAD_FOR, Registry};
use crate::claim::Confirmation;

/// Containers whose names are known at most, the removed included.
pub const NAMES_AT_MOST: usize = 16_384;

/// What an engine calls a container, and how it stands with it. An empty text says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub image: String,
    pub run: RunState,
}

/// Whether a container runs, as its engine said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunState {
    #[default]
    Unsaid,
    /// It was made, and never started.
    Never,
    Started,
    Ended,
}

/// What an engine tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineMessage {
    /// A container, by its full id, is called so from now on.
    Named(String, Named),
    /// A container that was named is meant to have these limits from now on.
    Intended(String, Arc<Intent>),
    /// A container runs, and these cgroups are its own.
    Confirmed(Confirmation),
    /// Its first process has ended.
    Ended(String),
    /// It was removed.
    Removed(String),
    /// These are all that there are.
    All(Vec<(String, Named)>),
}

/// Names by id.
#[derive(Debug, Default)]
pub(super) struct EngineNames {
    by_id: HashMap<String, NamedEntry>,
    /// In the order of removal.
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
    pub fn get(&self, id: &str) -> Option<&Named> {
        Some(&self.by_id.get(cut(id))?.named)
    }

    pub fn intended(&self, id: &str) -> Option<Arc<Intent>> {
        self.by_id.get(cut(id))?.intended.clone()
    }

    fn intend(&mut self, id: &str, intent: &Arc<Intent>) {
        if let Some(entry) = self.by_id.get_mut(cut(id)) {
            entry.intended = Some(Arc::clone(intent));
        }
    }

    /// Whether that is news.
    fn set(&mut self, id: &str, named: Named, now: Instant) -> bool {
        let id = cut(id);
        let named = Named {
            name: cut(&named.name).to_owned(),
            image: cut(&named.image).to_owned(),
            run: named.run,
        };
        if let Some(entry) = self.by_id.get_mut(id) {
            entry.removed = None;
            let run = match named.run {
                RunState::Unsaid => entry.named.run,
                said => said,
            };
            let named = Named { run, ..named };
            let is_news = entry.named != named;
            entry.named = named;
            return is_news;
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

    /// What is not in the list was removed.
    fn remove_others(&mut self, all: &[(String, Named)], now: Instant) {
        let all: HashSet<&str> = all.iter().map(|(id, _)| cut(id)).collect();
        let known = self.by_id.keys();
        let others = known.filter(|id| !all.contains(&***id)).cloned();
        for id in others.collect::<Vec<_>>() {
            self.remove(&id, now);
        }
    }

    /// Forgets what was removed long ago, and the oldest of it where there is no room for one more.
    fn forget(&mut self, now: Instant) {
        while let Some((removed, id)) = self.removed.front() {
            let is_old = now.duration_since(*removed) >= DEAD_FOR;
            if !is_old && self.by_id.len() < NAMES_AT_MOST && self.removed.len() < NAMES_AT_MOST {
                return;
            }
            // What an engine named again was not removed then.
            let entry = self.by_id.get(id);
            if entry.is_some_and(|entry| entry.removed == Some(*removed)) {
                self.by_id.remove(id);
            }
            self.removed.pop_front();
        }
    }
}

impl Registry {
    /// An engine says what its containers are called: those that are confirmed, living or dead, get
    /// the name at once, others when they are.
    pub fn tell(&mut self, told: EngineMessage, now: Instant) {
        match told {
            EngineMessage::Named(id, named) => {
                if self.names.set(&id, named, now) {
                    self.call(|container| container.id == id);
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
                self.call(|_| true);
            }
        }
        self.names.forget(now);
    }

    /// Gives the container, if it is there and confirmed, the limits that it is meant to have.
    fn intend(&mut self, id: &str, intent: &Arc<Intent>) {
        for cgroup in self.cgroups.values_mut() {
            if cgroup.is_container() && is_engines(cgroup) && cgroup.container.id == id {
                cgroup.intended = Some(Arc::clone(intent));
            }
        }
    }

    /// Gives those of the confirmed containers that are `concerned` the names that are known.
    fn call(&mut self, concerned: impl Fn(&Container) -> bool) {
        let users: HashSet<String> = {
            let users = self.cgroups.values().filter(|it| it.user != 0);
            users.map(|it| it.container.cgroup.clone()).collect()
        };
        let cgroups = self.cgroups.values_mut().filter(|it| is_engines(it));
        let cgroups = cgroups.filter(|it| !users.contains(&it.container.cgroup));
        for cgroup in cgroups.filter(|cgroup| concerned(&cgroup.container)) {
            if let Some(named) = self.names.get(&cgroup.container.id)
                && !is_called(&cgroup.container, named)
            {
                call(Arc::make_mut(&mut cgroup.container), named);
            }
        }
    }

    /// Whether an engine has the container with this id, running or not; `None` where none said so.
    pub fn is_had(&self, id: &str) -> Option<bool> {
        let entry = self.names.by_id.get(cut(id))?;
        Some(entry.removed.is_none())
    }

    /// Containers that an engine has and that do not run, of which no cgroup is known, not even as one that is gone: by id.
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

    /// How many containers have a name by their engine, those removed a while ago included.
    pub fn named(&self) -> usize {
        self.names.by_id.len()
    }

    /// How many names found no room.
    pub fn names_refused(&self) -> u64 {
        self.names.refused
    }
}

/// Whether an engine's answer, not our own state or a user's record, is what names it.
fn is_engines(cgroup: &Cgroup) -> bool {
    cgroup.is_confirmed() && !cgroup.is_own() && cgroup.user == 0
}

/// Gives a container the name that its engine gave it.
pub(super) fn call(container: &mut Container, named: &Named) {
    for (text, said) in [
        (&mut container.name, &named.name),
        (&mut container.image, &named.image),
    ] {
        if !said.is_empty() {
            cut(said).clone_into(text);
        }
    }
}

fn is_called(container: &Container, named: &Named) -> bool {
    let says = |text: &str, said: &str| said.is_empty() || text == said;
    says(&container.name, &named.name) && says(&container.image, &named.image)
}

#[cfg(test)]
mod tests;
