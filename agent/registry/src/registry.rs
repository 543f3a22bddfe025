//! Every cgroup that exists, or that was removed within [`DEAD_FOR`], and the container that it belongs to. The
//! kernel's events, a scan at start and the engines' messages arrive as values.

mod cgroup;
mod confirmed;
mod counted;
mod dead;
mod lives;
pub mod names;
mod owners;
mod shares;
mod units;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use agent_ebpf::{CgroupKey, Counts, HIERARCHIES, NamespaceInodes, Task};
use agent_model::container::{Container, ContainerKind};
use cgroup::Id;
pub use cgroup::{Cgroup, CgroupDirectory};
pub use dead::{DEAD_AT_MOST, DEAD_FOR};
use dead::{Dead, DeadOwner, Rare};
use shares::DirectoryShares;
pub use shares::{Borrower, DIRECTORIES_AT_MOST};

use super::life::{Life, LifeChange};
use super::location::{self, Rank, TaskLocation};

/// The id of the root of every hierarchy: kernfs makes its node first.
pub const ROOT_ID: u64 = 1;

/// The root of v2, under which the kernel side counts a task that is in no other cgroup.
const ROOT: CgroupKey = CgroupKey {
    id: ROOT_ID,
    hierarchy: 0,
    zero: 0,
};

/// A map with a fast hash, for keys that the kernel or this program assigns, so that nobody can choose colliding ones.
/// Each event of a busy host looks up a dozen keys.
type Numbered<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// All cgroups.
#[derive(Debug)]
pub struct Registry {
    host: NamespaceInodes,
    /// Boxed, as the table allocates space for up to twice as many entries as it holds.
    cgroups: Numbered<Id, Box<Cgroup>>,
    by_key: Numbered<CgroupKey, Id>,
    /// Living cgroups by path; a confirmed container may have several paths.
    by_path: HashMap<String, Id>,
    /// The last removed cgroup of each path.
    dead_by_path: HashMap<String, Id>,
    dead: Dead,
    owners: owners::NamespaceOwners,
    shares: DirectoryShares,
    next: Id,
    /// The number of calls of [`Registry::unconfirmed`].
    given: u64,
    refused: u64,
    unknown: Counts,
    names: names::EngineNames,
}

impl Registry {
    /// An empty registry. `host` has the host's own namespaces.
    pub fn new(host: NamespaceInodes) -> Self {
        Self {
            host,
            cgroups: Numbered::default(),
            by_key: Numbered::default(),
            by_path: HashMap::new(),
            dead_by_path: HashMap::new(),
            dead: Dead::default(),
            owners: owners::NamespaceOwners::default(),
            shares: DirectoryShares::default(),
            next: 0,
            given: 0,
            refused: 0,
            unknown: Counts::default(),
            names: names::EngineNames::default(),
        }
    }

    /// The host's own namespaces.
    pub fn host(&self) -> &NamespaceInodes {
        &self.host
    }

    /// Adds a cgroup that was made or found. A second call with the same key changes nothing.
    pub fn add(&mut self, key: CgroupKey, path: &str, created: SystemTime) {
        if path == "/" || self.by_key.contains_key(&key) {
            return;
        }
        if self.by_key.len() >= DIRECTORIES_AT_MOST || !self.shares.add(path) {
            self.refused += 1;
            return;
        }
        let id = self.by_path.get(path).copied();
        let id = id.unwrap_or_else(|| self.make(path, created));
        let Some(cgroup) = self.cgroups.get_mut(&id) else {
            self.shares.remove(path);
            return;
        };
        cgroup.created = cgroup.created.min(created);
        cgroup.add_directory(key, path);
        self.by_key.insert(key, id);
    }

    /// Makes a cgroup without directories.
    fn make(&mut self, path: &str, created: SystemTime) -> Id {
        let place = location::of(path);
        // A cgroup below a container's belongs to the container, confirmed or not, and one below a unit's to the unit.
        let above = Some(&place.container.cgroup).filter(|_| !place.own);
        let above = above.and_then(|path| self.container_at(path));
        let (container, user) = above.unwrap_or_else(|| (Arc::new(place.container), 0));
        let cgroup = Cgroup {
            container,
            claim: place.claim,
            own: place.own,
            intended: None,
            rank: place.rank,
            directories: Vec::new(),
            created,
            gone: None,
            past: self.inherit(path),
            life: Life::default(),
            path: path.to_owned(),
            user,
            looks: 0,
            given: 0,
        };
        self.next += 1;
        self.cgroups.insert(self.next, Box::new(cgroup));
        self.by_path.insert(path.to_owned(), self.next);
        self.next
    }

    /// The container or unit whose own cgroup is at `path`, and the user who owns it.
    fn container_at(&self, path: &str) -> Option<(Arc<Container>, u32)> {
        let cgroup = self.cgroups.get(self.by_path.get(path)?)?;
        Some((Arc::clone(&cgroup.container), cgroup.user))
    }

    /// Takes the counts of the last removed cgroup with this path. One path is one series, so the counters of a restarted
    /// container continue.
    fn inherit(&mut self, path: &str) -> Option<Box<Counts>> {
        let dead = self.dead_by_path.remove(path)?;
        self.cgroups.get_mut(&dead)?.past.take()
    }

    /// Removes a cgroup that the kernel removed. `counts` has what the kernel side counted in it.
    pub fn remove(&mut self, key: CgroupKey, counts: &Counts, now: Instant) -> Option<LifeChange> {
        let mut change = self.set_populated(key, false, 0);
        let Some(&id) = self.by_key.get(&key) else {
            self.unknown.add(counts);
            return None;
        };
        let account = self.cgroups.get_mut(&self.account_of(id))?;
        account.past.get_or_insert_default().add(counts);
        let cgroup = self.cgroups.get_mut(&id)?;
        let mut directories = cgroup.directories.iter_mut();
        for directory in directories.by_ref().filter(|it| it.key == key) {
            directory.gone = true;
        }
        if cgroup.gone.is_none() && cgroup.directories.iter().all(|directory| directory.gone) {
            cgroup.gone = Some(SystemTime::now());
            let stop = self.live(id, Cgroup::end);
            change = change.or(stop.flatten());
            let cgroup = self.cgroups.get_mut(&id)?;
            for path in cgroup.paths() {
                if self.by_path.get(path) == Some(&id) {
                    self.by_path.remove(path);
                }
            }
            self.dead_by_path.insert(cgroup.path.clone(), id);
            let rare = cgroup.past.as_deref().and_then(Rare::of);
            self.dead.push(rare, owner_of(cgroup), now, id);
        }
        let cgroup = self.cgroups.get_mut(&id)?;
        for forgotten in cgroup.forget_directories() {
            self.by_key.remove(&forgotten.key);
            self.shares.remove(&forgotten.path);
        }
        self.forget(now);
        change
    }

    /// Forgets removed cgroups that are too old or too many.
    pub fn forget(&mut self, now: Instant) {
        while let Some(id) = self.dead.next_to_forget(now) {
            if let Some(cgroup) = self.cgroups.remove(&id) {
                if self.dead_by_path.get(&cgroup.path) == Some(&id) {
                    self.dead_by_path.remove(&cgroup.path);
                }
                for directory in cgroup.directories {
                    self.by_key.remove(&directory.key);
                    self.shares.remove(&directory.path);
                }
            }
        }
    }

    /// Where the task is.
    pub fn locate(&self, task: &Task) -> TaskLocation {
        let mut best: Option<&Cgroup> = None;
        let mut unknown = false;
        for key in keys(task) {
            match self.get(key) {
                Some(cgroup) if best.is_none_or(|best| cgroup.rank > best.rank) => {
                    best = Some(cgroup);
                }
                Some(_) => {}
                None => unknown = true,
            }
        }
        let best = best.map(|cgroup| (cgroup.rank, &cgroup.container));
        location::decide(best, unknown, task, &self.host)
    }

    /// The cgroup that the kernel side counts the task under, if the task is known to be in no container. Such a cgroup has
    /// no baseline.
    pub fn counted_outside_containers(&self, task: &Task) -> Option<CgroupKey> {
        let inside = match self.locate(task) {
            TaskLocation::In(container) => container.kind == ContainerKind::Container,
            TaskLocation::Unknown => true,
            TaskLocation::Host => false,
        };
        let key = keys(task).next().unwrap_or(ROOT);
        (!inside).then_some(key)
    }

    /// Returns whose share of the kernel's maps an entry for the cgroup uses. Returns `None` for the own cgroup of a
    /// container of root's, which uses no share.
    pub fn borrower(&self, key: CgroupKey) -> Option<Borrower> {
        let cgroup = self.get(key).filter(|it| it.is_confirmed());
        let Some(cgroup) = cgroup else {
            return Some(Borrower::Unconfirmed);
        };
        if cgroup.user() != 0 {
            return Some(Borrower::User(cgroup.user()));
        }
        let own = self.by_path.get(&cgroup.container.cgroup);
        let own = own.and_then(|id| self.cgroups.get(id)?.directories.first());
        (!cgroup.own).then(|| Borrower::Below(own.map_or(0, |it| it.key.id)))
    }

    /// Returns a cgroup of the task that the registry does not know, which a scan may find.
    pub fn lacking_of(&self, task: &Task) -> Option<CgroupKey> {
        keys(task).find(|key| !self.by_key.contains_key(key))
    }

    /// The cgroup with this key, also a removed one.
    pub fn get(&self, key: CgroupKey) -> Option<&Cgroup> {
        self.cgroups.get(self.by_key.get(&key)?).map(|it| &**it)
    }

    /// The path of the cgroup with this key.
    pub fn path(&self, key: CgroupKey) -> Option<&str> {
        let directory = self
            .get(key)?
            .directories
            .iter()
            .find(|directory| directory.key == key)?;
        Some(&directory.path)
    }

    /// Every cgroup, also the removed ones.
    pub fn all(&self) -> impl Iterator<Item = &Cgroup> {
        self.cgroups.values().map(|it| &**it)
    }

    /// The cgroups that have series in `/metrics`: the living ones, and removed ones in which something rare happened.
    pub fn with_series(&self) -> impl Iterator<Item = &Cgroup> {
        let dead = self.dead.with_series();
        let dead = dead.filter_map(|id| self.cgroups.get(&id).map(|it| &**it));
        // A later cgroup with the same path may have taken the counts.
        let dead = dead.filter(|cgroup| cgroup.past.is_some());
        self.all().filter(|it| it.gone.is_none()).chain(dead)
    }

    /// The own cgroups of containers that exist.
    pub fn containers(&self) -> impl Iterator<Item = &Cgroup> {
        self.all()
            .filter(|cgroup| cgroup.own && cgroup.rank == Rank::Container && cgroup.gone.is_none())
    }

    /// The own cgroups of units that exist.
    pub fn units(&self) -> impl Iterator<Item = &Cgroup> {
        let living = self.all().filter(|cgroup| cgroup.gone.is_none());
        living.filter(|cgroup| cgroup.is_unit())
    }

    /// The keys of all directories that exist.
    pub fn living(&self) -> impl Iterator<Item = CgroupKey> {
        self.all().flat_map(Cgroup::living)
    }

    /// What the kernel side counted in cgroups that the registry never knew.
    pub fn unknown(&self) -> &Counts {
        &self.unknown
    }

    /// How many living and how many removed cgroups the registry knows.
    pub fn sizes(&self) -> (usize, usize) {
        let dead = self.dead.len();
        (self.cgroups.len() - dead, dead)
    }

    /// How many cgroups the registry had no room for.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// Returns the owner of a removed cgroup. The owner decides which cgroup is forgotten first when there are too many.
fn owner_of(cgroup: &Cgroup) -> DeadOwner {
    match cgroup.user() {
        _ if !cgroup.is_container() || !cgroup.is_confirmed() => DeadOwner::Other,
        0 => DeadOwner::Root,
        user => DeadOwner::User(user),
    }
}

/// The non-root cgroups of a task, in the order memory, pids, cpu, v2. The kernel side counts the task under the first.
pub fn keys(task: &Task) -> impl Iterator<Item = CgroupKey> + use<> {
    let cgroups = task.cgroups;
    (0..HIERARCHIES)
        .filter(move |&i| cgroups.ids[i] != 0 && cgroups.levels[i] > 0)
        .map(move |i| CgroupKey {
            id: cgroups.ids[i],
            hierarchy: cgroups.hierarchies[i],
            zero: 0,
        })
}

#[cfg(test)]
mod tests;
