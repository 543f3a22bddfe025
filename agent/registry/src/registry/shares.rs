//! The shares of the registry's capacity, so that no user who may make cgroups can use all of it.

use std::collections::HashMap;

use crate::claim::Claim;

/// The most directories of cgroups that the registry knows, also removed ones. Tests have a smaller bound, which they
/// reach in a second.
pub const DIRECTORIES_AT_MOST: usize = 1 << if cfg!(test) { 15 } else { 18 };

/// The most directories that the registry knows below one top-level cgroup. A user's cgroups are all below
/// `user.slice`, or below a cgroup that was delegated to that user.
const TOP_AT_MOST: usize = DIRECTORIES_AT_MOST / 4 * 3;
/// The most directories that the registry knows below one container's cgroup.
const CONTAINER_AT_MOST: usize = DIRECTORIES_AT_MOST / 8;

/// How many directories there are below each cgroup that has a share.
#[derive(Debug, Default)]
pub(super) struct DirectoryShares(HashMap<String, usize>);

impl DirectoryShares {
    /// Counts one more directory at `path`; false if its share is full.
    pub(super) fn add(&mut self, path: &str) -> bool {
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

    pub(super) fn remove(&mut self, path: &str) {
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

/// The cgroups above `path` that have shares, and their sizes.
fn shares(path: &str) -> [Option<(String, usize)>; 2] {
    let top = path.trim_start_matches('/').split('/').next();
    // A top-level name alone claims no container.
    let top = top.map(|top| (top.to_owned(), TOP_AT_MOST));
    let container = Claim::of(path).filter(|claim| claim.cgroup != path);
    let container = container.map(|claim| (claim.cgroup, CONTAINER_AT_MOST));
    [top, container]
}

/// The party that uses an entry of the kernel's maps which others may need more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Borrower {
    /// A cgroup that belongs to no confirmed container.
    Unconfirmed,
    /// A container of this ordinary user.
    User(u32),
    /// A cgroup below a container of root's, whose own cgroup has this id.
    Below(u64),
}

impl Borrower {
    /// A number that differs from every other borrower's.
    pub fn number(self) -> u64 {
        match self {
            Self::Unconfirmed => u64::MAX,
            Self::User(user) => user.into(),
            // An id grows with the number of kernfs nodes that the hierarchy ever had (`kernfs_new_node`,
            // fs/kernfs/dir.c), so the sum does not reach `MAX`.
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
        // The container's own cgroup, and other containers, have room.
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
