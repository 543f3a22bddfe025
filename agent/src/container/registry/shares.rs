//! How the registry's room is shared out, so that nobody who may make cgroups leaves none for others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use super::{DEAD_AT_MOST, DEAD_FOR, DIRECTORIES_AT_MOST, Id};
use crate::container::claim::Claim;

/// Directories below one cgroup of the top, and below one container's cgroup, at most. A user's cgroups are all below
/// `user.slice`, or below what was given to that user.
const TOP_AT_MOST: usize = DIRECTORIES_AT_MOST / 4 * 3;
const CONTAINER_AT_MOST: usize = DIRECTORIES_AT_MOST / 8;

/// Dead containers of all ordinary users, at most.
const USERS_DEAD_AT_MOST: usize = DEAD_AT_MOST / 2;

/// How many directories there are, by where they are.
#[derive(Debug, Default)]
pub struct Directories(HashMap<String, usize>);

impl Directories {
    /// Counts one more at `path`; false where it has no room.
    pub fn add(&mut self, path: &str) -> bool {
        let shares = shares(path);
        let mut all = shares.iter().flatten();
        if all.any(|(at, most)| self.0.get(at).is_some_and(|it| it >= most)) {
            return false;
        }
        for (at, _) in shares.into_iter().flatten() {
            *self.0.entry(at).or_default() += 1;
        }
        true
    }

    pub fn remove(&mut self, path: &str) {
        for (at, _) in shares(path).into_iter().flatten() {
            let left = self.0.get_mut(&at).map(|count| {
                *count = count.saturating_sub(1);
                *count
            });
            if left == Some(0) {
                self.0.remove(&at);
            }
        }
    }
}

/// The cgroups above `path` that have shares, and how large those are.
fn shares(path: &str) -> [Option<(String, usize)>; 2] {
    let top = path.trim_start_matches('/').split('/').next();
    // No container is at the top by its name alone.
    let top = top.map(|top| (top.to_owned(), TOP_AT_MOST));
    let container = Claim::of(path).filter(|claim| claim.cgroup != path);
    let container = container.map(|claim| (claim.cgroup, CONTAINER_AT_MOST));
    [top, container]
}

/// Whose a dead cgroup was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// No confirmed container's.
    Other,
    /// An ordinary user's container.
    User(u32),
    /// A container of root's, or of an engine of root's.
    Root,
}

impl Owner {
    const fn is_user(self) -> bool {
        matches!(self, Self::User(_))
    }
}

/// Whose is a place that is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Borrower {
    /// Nobody's who is known.
    Unconfirmed,
    User(u32),
    /// A cgroup below a container of root's, whose own cgroup has this id.
    Below(u64),
}

impl Borrower {
    /// A number that no other has.
    pub fn number(self) -> u64 {
        match self {
            Self::Unconfirmed => u64::MAX,
            Self::User(user) => user.into(),
            // An id counts the cgroups that a hierarchy ever had.
            Self::Below(id) => id.saturating_add(1 << 32),
        }
    }
}

/// The dead, by owner in the order of death.
#[derive(Debug, Default)]
pub struct Dead {
    queues: BTreeMap<Owner, VecDeque<(Instant, Id)>>,
    all: usize,
    users: usize,
}

impl Dead {
    pub fn len(&self) -> usize {
        self.all
    }

    pub fn push(&mut self, owner: Owner, died: Instant, id: Id) {
        self.queues.entry(owner).or_default().push_back((died, id));
        self.all += 1;
        self.users += usize::from(owner.is_user());
    }

    /// The next one that is too old, or one too many.
    pub fn next_to_forget(&mut self, now: Instant) -> Option<Id> {
        let owner = if self.all > DEAD_AT_MOST {
            self.has_too_many()
        } else {
            let is_old = |dead: &VecDeque<(Instant, Id)>| {
                let first = dead.front();
                first.is_some_and(|(died, _)| now.duration_since(*died) >= DEAD_FOR)
            };
            let mut queues = self.queues.iter();
            queues
                .find(|(_, dead)| is_old(dead))
                .map(|(owner, _)| *owner)
        }?;
        let dead = self.queues.get_mut(&owner)?;
        let id = dead.pop_front().map(|(_, id)| id);
        if dead.is_empty() {
            self.queues.remove(&owner);
        }
        self.all -= 1;
        self.users -= usize::from(owner.is_user());
        id
    }

    /// Who gives way: plain cgroups; of users who have too many together the one with the most; then root.
    fn has_too_many(&self) -> Option<Owner> {
        if self.queues.contains_key(&Owner::Other) {
            return Some(Owner::Other);
        }
        if self.users <= USERS_DEAD_AT_MOST && self.queues.contains_key(&Owner::Root) {
            return Some(Owner::Root);
        }
        let users = self.queues.iter().filter(|(owner, _)| owner.is_user());
        let most = users.max_by_key(|(_, dead)| dead.len());
        most.map(|(owner, _)| *owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_what_is_below_the_top_and_below_a_container() {
        let mut directories = Directories::default();
        let below = |number: usize| format!("/a/agent/web/{number}");
        assert!((0..CONTAINER_AT_MOST).all(|number| directories.add(&below(number))));
        assert!(!directories.add("/a/agent/web/more"));
        // It itself, and others, have room.
        assert!(directories.add("/a/agent/web"));
        assert!(directories.add("/a/agent/other/x"));
        directories.remove(&below(0));
        assert!(directories.add("/a/agent/web/more"));
        let rest = TOP_AT_MOST - CONTAINER_AT_MOST - 2;
        assert!((0..rest).all(|number| directories.add(&format!("/a/{number}"))));
        assert!(!directories.add("/a/more") && !directories.add("//a/odd\\xff"));
        assert!(directories.add("/b/more"));
        for number in 0..rest {
            directories.remove(&format!("/a/{number}"));
        }
        assert_eq!(directories.0.get("a"), Some(&(CONTAINER_AT_MOST + 2)));
    }

    #[test]
    fn the_one_with_the_most_gives_way() {
        let (mut dead, now) = (Dead::default(), Instant::now());
        let mut push = |owner, ids: std::ops::Range<u64>| {
            let mut forgotten = Vec::<u64>::new();
            for id in ids {
                dead.push(owner, now, id);
                forgotten.extend(dead.next_to_forget(now));
            }
            forgotten
        };
        let most = DEAD_AT_MOST as u64;
        assert_eq!(push(Owner::Root, 0..10), [0_u64; 0]);
        assert_eq!(push(Owner::User(7), 10..20), [0_u64; 0]);
        // User 8 forgets its own only, however many they are.
        let of_8 = push(Owner::User(8), 20..20 + 2 * most);
        assert!(of_8.iter().all(|id| *id >= 20));
        // Root has the other half, and all that users do not have.
        let of_root = push(Owner::Root, 100_000..100_000 + 2 * most);
        assert!(of_root.iter().filter(|id| **id < 10).count() == 10);
        assert!(of_root.iter().all(|id| !(10..20).contains(id)));
        assert_eq!(dead.len(), DEAD_AT_MOST);
        assert_eq!(dead.users, USERS_DEAD_AT_MOST);
    }
}
