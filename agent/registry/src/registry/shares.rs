//! How the registry's room is shared out, so that nobody who may make cgroups leaves none for others.

use std::collections::HashMap;

use super::DIRECTORIES_AT_MOST;
use crate::claim::Claim;

/// Directories below one cgroup of the top, and below one container's cgroup, at most. A user's cgroups are all below
/// `user.slice`, or below what was given to that user.
const TOP_AT_MOST: usize = DIRECTORIES_AT_MOST / 4 * 3;
const CONTAINER_AT_MOST: usize = DIRECTORIES_AT_MOST / 8;

/// How many directories there are, by where they are.
#[derive(Debug, Default)]
pub struct DirectoryShares(HashMap<String, usize>);

impl DirectoryShares {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_what_is_below_the_top_and_below_a_container() {
        let mut directories = DirectoryShares::default();
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
}
