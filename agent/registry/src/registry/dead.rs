//! The removed cgroups that the registry remembers, and which of them have series.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use agent_ebpf::{Counts, Ending};

use super::cgroup::Id;

/// How long the registry remembers a removed cgroup.
pub const DEAD_FOR: Duration = Duration::from_secs(15 * 60);
/// The most removed cgroups that the registry remembers.
pub const DEAD_AT_MOST: usize = 4096;

/// The most removed cgroups that have series.
const WITH_SERIES_AT_MOST: usize = 512;

/// Who owned a removed cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DeadOwner {
    /// The cgroup belonged to no confirmed container.
    Other,
    /// An ordinary user's container.
    User(u32),
    /// A container of root's, or of an engine of root's.
    Root,
}

impl DeadOwner {
    const fn is_user(self) -> bool {
        matches!(self, Self::User(_))
    }
}

/// A rare event, for which a removed cgroup keeps its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rare {
    /// Escapes, and processes that ended by a signal.
    Other,
    OomKill,
}

impl Rare {
    /// The rarest event in `counts`.
    pub(super) fn of(counts: &Counts) -> Option<Self> {
        let ended = |ending: Ending| counts.exits[ending as usize] > 0;
        let kills = counts.oom_kills + counts.oom_limit_kills;
        let others = ended(Ending::Signal) || counts.escapes.iter().any(|it| *it > 0);
        match () {
            () if kills > 0 || ended(Ending::OomKilled) => Some(Self::OomKill),
            () if others => Some(Self::Other),
            () => None,
        }
    }
}

/// Removed cgroups by owner, in the order of removal.
#[derive(Debug, Default)]
struct Queues {
    by: BTreeMap<DeadOwner, VecDeque<(Instant, Id)>>,
    all: usize,
    users: usize,
}

impl Queues {
    fn push(&mut self, owner: DeadOwner, died: Instant, id: Id) {
        self.by.entry(owner).or_default().push_back((died, id));
        self.all += 1;
        self.users += usize::from(owner.is_user());
    }

    fn pop(&mut self, owner: DeadOwner) -> Option<Id> {
        let dead = self.by.get_mut(&owner)?;
        let id = dead.pop_front().map(|(_, id)| id);
        if dead.is_empty() {
            self.by.remove(&owner);
        }
        self.all -= 1;
        self.users -= usize::from(owner.is_user());
        id
    }

    fn pop_old(&mut self, now: Instant) -> Option<Id> {
        let is_old = |dead: &VecDeque<(Instant, Id)>| {
            let first = dead.front();
            first.is_some_and(|(died, _)| now.duration_since(*died) >= DEAD_FOR)
        };
        let mut by = self.by.iter();
        let owner = by.find(|(_, dead)| is_old(dead)).map(|(owner, _)| *owner)?;
        self.pop(owner)
    }

    /// Removes the oldest cgroup of one owner, so that at most `most` remain: first one that belonged to no confirmed
    /// container. Otherwise, if users together have more than half, one of the user with the most; else one of root's.
    fn pop_surplus(&mut self, most: usize) -> Option<(DeadOwner, Id)> {
        let owner = if self.by.contains_key(&DeadOwner::Other) {
            DeadOwner::Other
        } else if self.users <= most / 2 && self.by.contains_key(&DeadOwner::Root) {
            DeadOwner::Root
        } else {
            let users = self.by.iter().filter(|(owner, _)| owner.is_user());
            users.max_by_key(|(_, dead)| dead.len()).map(|it| *it.0)?
        };
        Some((owner, self.pop(owner)?))
    }
}

/// All removed cgroups that the registry remembers.
#[derive(Debug, Default)]
pub(super) struct Dead {
    /// Those that have no series.
    silent: Queues,
    /// Those that have series.
    others: Queues,
    kills: Queues,
}

impl Dead {
    pub(super) fn len(&self) -> usize {
        self.silent.all + self.others.all + self.kills.all
    }

    /// Adds a removed cgroup; `rare` is what happened in it. When too many have series, the oldest lose theirs: first those
    /// without OOM kills, then the others.
    pub(super) fn push(&mut self, rare: Option<Rare>, owner: DeadOwner, died: Instant, id: Id) {
        let queues = match rare {
            None => &mut self.silent,
            Some(Rare::Other) => &mut self.others,
            Some(Rare::OomKill) => &mut self.kills,
        };
        queues.push(owner, died, id);
        while self.others.all + self.kills.all > WITH_SERIES_AT_MOST {
            let with_series = if self.others.all > 0 {
                &mut self.others
            } else {
                &mut self.kills
            };
            let Some((owner, id)) = with_series.pop_surplus(WITH_SERIES_AT_MOST) else {
                return;
            };
            self.silent.push(owner, died, id);
        }
    }

    /// The cgroups that have series.
    pub(super) fn with_series(&self) -> impl Iterator<Item = Id> {
        let queues = self.kills.by.values().chain(self.others.by.values());
        queues.flatten().map(|(_, id)| *id)
    }

    /// The next cgroup to forget: one that is too old, or one too many.
    pub(super) fn next_to_forget(&mut self, now: Instant) -> Option<Id> {
        if self.silent.all > DEAD_AT_MOST {
            return self.silent.pop_surplus(DEAD_AT_MOST).map(|it| it.1);
        }
        let mut all = [&mut self.silent, &mut self.others, &mut self.kills].into_iter();
        all.find_map(|queues| queues.pop_old(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_with_series_oom_kills_stay_longest() {
        let (mut dead, now) = (Dead::default(), Instant::now());
        let most = WITH_SERIES_AT_MOST as u64;
        for id in 0..most {
            dead.push(Some(Rare::OomKill), DeadOwner::User(7), now, id);
        }
        for id in most..3 * most {
            dead.push(Some(Rare::Other), DeadOwner::Root, now, id);
            dead.push(None, DeadOwner::Root, now, 10 * most + id);
        }
        assert!(dead.with_series().eq(0..most));
        // Users keep half of the cgroups with OOM kills.
        for id in 3 * most..4 * most {
            dead.push(Some(Rare::OomKill), DeadOwner::Root, now, id);
        }
        let (users, roots): (Vec<u64>, Vec<u64>) = dead.with_series().partition(|id| *id < most);
        assert_eq!((users.len(), roots.len()), (256, 256));
        // The registry still knows all of them.
        assert_eq!(dead.len() as u64, 6 * most);
        assert_eq!(dead.next_to_forget(now), None);
        let old = now + DEAD_FOR;
        assert_eq!(
            (0..).find(|_| dead.next_to_forget(old).is_none()),
            Some(6 * most)
        );
        assert_eq!(dead.len(), 0);
    }

    #[test]
    fn what_is_rare() {
        let mut counts = Counts {
            execs: 7,
            ..Counts::default()
        };
        counts.exits[Ending::Failure as usize] = 1;
        assert_eq!(Rare::of(&counts), None);
        counts.escapes[0] = 1;
        assert_eq!(Rare::of(&counts), Some(Rare::Other));
        counts.oom_limit_kills = 1;
        assert_eq!(Rare::of(&counts), Some(Rare::OomKill));
    }

    #[test]
    fn the_one_with_the_most_gives_way() {
        let (mut dead, now) = (Dead::default(), Instant::now());
        let mut push = |owner, ids: std::ops::Range<u64>| {
            let mut forgotten = Vec::<u64>::new();
            for id in ids {
                dead.push(None, owner, now, id);
                forgotten.extend(dead.next_to_forget(now));
            }
            forgotten
        };
        let most = DEAD_AT_MOST as u64;
        assert_eq!(push(DeadOwner::Root, 0..10), [0_u64; 0]);
        assert_eq!(push(DeadOwner::User(7), 10..20), [0_u64; 0]);
        // User 8's surplus removes only that user's own cgroups.
        let of_8 = push(DeadOwner::User(8), 20..20 + 2 * most);
        assert!(of_8.iter().all(|id| *id >= 20));
        // Root has the other half, and all that users do not have.
        let of_root = push(DeadOwner::Root, 100_000..100_000 + 2 * most);
        assert!(of_root.iter().filter(|id| **id < 10).count() == 10);
        assert!(of_root.iter().all(|id| !(10..20).contains(id)));
        assert_eq!(dead.len(), DEAD_AT_MOST);
        assert_eq!(dead.silent.users, DEAD_AT_MOST / 2);
    }
}
