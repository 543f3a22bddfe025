//! Which entries of the kernel's maps are lent: all but those of the own cgroups of root's containers.
//!
//! At most half of a map's entries are lent at a time. So root's containers find room, however many cgroups with init
//! processes a user or a container makes.

use std::collections::{BTreeMap, HashMap};

use agent_ebpf::{COUNTED_CGROUPS, CgroupKey};

/// The most entries that are lent at a time.
const AT_MOST: usize = COUNTED_CGROUPS as usize / 2;

/// The lent entries, by cgroup and by borrower.
#[derive(Debug, Default)]
pub struct Lent {
    /// The number of the last loan. Loans are numbered in their order.
    next: u64,
    /// The borrower and the number of the loan, by the cgroup.
    by_key: HashMap<CgroupKey, (u64, u64)>,
    /// The cgroups of each borrower, by the number of the loan.
    by_borrower: BTreeMap<u64, BTreeMap<u64, CgroupKey>>,
}

impl Lent {
    /// Lends an entry to `borrower` for its cgroup `key`. Each borrower has a number that no other borrower has.
    pub fn lend(&mut self, key: CgroupKey, borrower: u64) {
        // The cgroup may have belonged to another borrower before.
        self.remove(key);
        self.next += 1;
        self.by_key.insert(key, (borrower, self.next));
        let places = self.by_borrower.entry(borrower).or_default();
        places.insert(self.next, key);
    }

    /// If too many entries are lent, takes back the oldest one of the borrower with the most, and returns its cgroup.
    pub fn surplus(&mut self) -> Option<CgroupKey> {
        if self.by_key.len() <= AT_MOST {
            return None;
        }
        let most = self.by_borrower.values().max_by_key(|it| it.len())?;
        let (_, oldest) = most.first_key_value()?;
        let oldest = *oldest;
        self.remove(oldest);
        Some(oldest)
    }

    /// Notes that the entry of `key` is not lent, or does not exist.
    pub fn remove(&mut self, key: CgroupKey) {
        let Some((borrower, number)) = self.by_key.remove(&key) else {
            return;
        };
        if let Some(places) = self.by_borrower.get_mut(&borrower) {
            places.remove(&number);
            if places.is_empty() {
                self.by_borrower.remove(&borrower);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64) -> CgroupKey {
        CgroupKey {
            id,
            hierarchy: 0,
            zero: 0,
        }
    }

    #[test]
    fn who_has_the_most_gives_the_oldest_back() {
        let mut all = Lent::default();
        let mut lend = |id, borrower| {
            all.lend(key(id), borrower);
            all.surplus()
        };
        let (one, other) = (1, 2);
        assert_eq!(lend(1, other), None);
        assert_eq!(lend(2, 3), None);
        let at_most = AT_MOST as u64;
        for id in 10..10 + at_most - 2 {
            assert_eq!(lend(id, one), None);
        }
        assert_eq!(lend(3, other), Some(key(10)));
        assert_eq!(lend(9_999_999, one), Some(key(11)));
        // An entry that is gone, or belongs to root, makes room.
        all.remove(key(2));
        all.remove(key(2));
        all.lend(key(4), 4);
        assert_eq!(all.surplus(), None);
        // A cgroup that is lent twice is one loan, of the later borrower.
        all.lend(key(4), other);
        assert_eq!(all.surplus(), None);
        assert_eq!(all.by_key.len(), AT_MOST);
        assert_eq!(all.by_borrower.len(), 2);
    }
}
