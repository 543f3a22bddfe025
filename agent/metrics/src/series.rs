//! Selects the cgroups that have series, where a scrape may not have the series of all.
//!
//! Containers of root come first, then units, ordinary users' containers, cgroups below containers, and other cgroups.
//! Within a sort, the oldest come first, and ordinary users take turns. So a cgroup that is left out stays left out
//! until another one ends.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_ebpf::CgroupKey;
use agent_registry::location::Rank;
use agent_registry::registry::{Cgroup, Registry};

use super::found::label_path;
use super::which::Which;

/// The number of series that a cgroup is expected to have before its first scrape.
const EXPECTED: u32 = 32;

/// The containers of ordinary users have at most a third of all series together. All cgroups but containers have at
/// most a sixth. No host has thousands of units. But any user can make any number of cgroups, and records that call
/// them containers.
const USERS_SHARE: u32 = 3;
const OTHERS_SHARE: u32 = 6;

/// The most series that a scrape may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub all: u32,
    /// The most series of one container and the cgroups below it.
    pub container: u32,
}

impl Bounds {
    /// 120 series for each of 5,000 containers. Most containers have fewer than 100.
    pub const DEFAULT: Self = Self {
        all: 600_000,
        container: 10_000,
    };

    /// The most series that a container's own cgroup can need, with up to 64 devices and 64 interfaces.
    pub const LEAST_CONTAINER: u32 = 2_000;
}

/// The sort of a cgroup. The order of the sorts is that in which cgroups get series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// A container of root's, or of an engine of root's.
    Container,
    Unit,
    /// An ordinary user's container.
    User,
    /// A cgroup below a container's own.
    Below,
    Cgroup,
}

impl Sort {
    pub const ALL: [Self; 5] = [
        Self::Container,
        Self::Unit,
        Self::User,
        Self::Below,
        Self::Cgroup,
    ];

    pub fn of(cgroup: &Cgroup) -> Self {
        match cgroup.rank {
            // Any user can make any number of cgroups that claim to be containers.
            Rank::Container if !cgroup.is_confirmed() => Self::Cgroup,
            Rank::Container if cgroup.user() != 0 && cgroup.own => Self::User,
            Rank::Container if cgroup.user() != 0 => Self::Cgroup,
            Rank::Container if cgroup.own => Self::Container,
            Rank::Container => Self::Below,
            Rank::Service | Rank::Group => Self::Unit,
            Rank::Cgroup => Self::Cgroup,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Unit => "unit",
            Self::User => "user_container",
            Self::Below => "below",
            Self::Cgroup => "cgroup",
        }
    }

    /// Returns the index of the share that the sort counts for, and the divisor that gives its size.
    const fn share(self) -> Option<(usize, u32)> {
        match self {
            Self::Container => None,
            Self::User => Some((0, USERS_SHARE)),
            Self::Unit | Self::Below | Self::Cgroup => Some((1, OTHERS_SHARE)),
        }
    }
}

/// Returns the sort key of a cgroup. Existing cgroups come in the order of sort and age. Removed containers follow the
/// existing ones of their sort, and other removed cgroups come last. The last one removed is the first among the
/// removed.
fn in_order(cgroup: &Cgroup) -> impl Ord + use<> {
    let sort = Sort::of(cgroup);
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let is_forgotten_first = cgroup.gone.is_some() && !matches!(sort, Sort::Container | Sort::User);
    let gone = cgroup.gone.map(|gone| Reverse(since(gone)));
    // The path makes the order independent of the order in which the agent found the cgroups at its start.
    let path = cgroup.directories.first().map(|it| it.path.clone());
    let created = since(cgroup.created);
    (is_forgotten_first, sort, gone, created, path)
}

/// The bound that leaves a cgroup out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    All,
    Container,
}

impl Bound {
    pub const ALL: [Self; 2] = [Self::All, Self::Container];

    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Container => "container",
        }
    }
}

/// The number of cgroups that were left out, by sort and bound.
pub type LeftOut = [[u64; Bound::ALL.len()]; Sort::ALL.len()];

/// The series that some sorts have together.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    used: u32,
    is_full: bool,
}

/// Distributes the series of one scrape. The caller offers the cgroups in order.
#[derive(Debug)]
pub struct Budget {
    bounds: Bounds,
    used: u32,
    /// Whether a cgroup had no room. Then no later one has room.
    is_full: bool,
    shares: [Share; 2],
    /// The series of each container, by the path of its cgroup. `None` after one of its cgroups had no room.
    containers: HashMap<String, Option<u32>>,
    pub left_out: LeftOut,
}

impl Budget {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            used: 0,
            is_full: false,
            shares: Default::default(),
            containers: HashMap::new(),
            left_out: LeftOut::default(),
        }
    }

    /// Takes `series` from the budget, and tells whether there was room. `container` is the container that the cgroup
    /// is, or is below.
    pub fn take(&mut self, sort: Sort, container: Option<&str>, series: u32) -> bool {
        let refused_by = if self.is_too_much_of_all(sort, series) {
            Some(Bound::All)
        } else {
            let too_much = container.is_some_and(|it| self.is_too_much_of_one(it, series));
            too_much.then_some(Bound::Container)
        };
        if let Some(bound) = refused_by {
            self.left_out[sort as usize][bound as usize] += 1;
            return false;
        }
        self.used += series;
        if let Some(share) = self.share_of(sort) {
            share.used += series;
        }
        true
    }

    fn is_too_much_of_all(&mut self, sort: Sort, series: u32) -> bool {
        self.is_full |= self.used.saturating_add(series) > self.bounds.all;
        let (all, is_full) = (self.bounds.all, self.is_full);
        let Some((share, (_, part))) = self.share_of(sort).zip(sort.share()) else {
            return is_full;
        };
        share.is_full |= share.used.saturating_add(series) > all / part;
        is_full || share.is_full
    }

    fn share_of(&mut self, sort: Sort) -> Option<&mut Share> {
        let (index, _) = sort.share()?;
        self.shares.get_mut(index)
    }

    fn is_too_much_of_one(&mut self, container: &str, series: u32) -> bool {
        if !self.containers.contains_key(container) {
            self.containers.insert(container.to_owned(), Some(0));
        }
        let Some(used) = self.containers.get_mut(container) else {
            return true;
        };
        let bound = self.bounds.container;
        *used = used.and_then(|used| used.checked_add(series).filter(|sum| *sum <= bound));
        used.is_none()
    }
}

/// Why a cgroup is read.
#[derive(Debug)]
pub enum Place {
    /// It always has series: the root, and the sum of the unknown cgroups.
    Always,
    /// It has series if there is room.
    Chosen {
        sort: Sort,
        container: Option<String>,
        key: Option<CgroupKey>,
    },
    /// It has no series, but its limits bind the cgroups below it.
    Above,
}

impl Place {
    pub fn of(cgroup: &Cgroup) -> Self {
        Self::Chosen {
            sort: Sort::of(cgroup),
            container: container_of(cgroup),
            key: Seen::key(cgroup),
        }
    }
}

/// Selects the cgroups that a scrape reads.
pub struct Choice<'a> {
    pub which: Which,
    pub bounds: Bounds,
    pub seen: &'a mut Seen,
}

impl Choice<'_> {
    /// Returns the cgroups that have room, by their number of series in earlier scrapes, and how many have none.
    /// `order` is the order of hierarchies for `label_path`.
    pub fn of<'a>(&self, registry: &'a Registry, order: &[u32]) -> (Vec<&'a Cgroup>, LeftOut) {
        let wanted = registry
            .with_series()
            .filter(|cgroup| self.which.wants(cgroup));
        let mut wanted: Vec<_> = wanted.collect();
        wanted.sort_by_cached_key(|cgroup| in_order(cgroup));
        take_turns(&mut wanted);
        let mut budget = Budget::new(self.bounds);
        let mut paths = HashSet::new();
        wanted.retain(|cgroup| {
            let (sort, container) = (Sort::of(cgroup), container_of(cgroup));
            // Cgroups with the same path would have the same series. An existing cgroup comes before removed ones.
            paths.insert(label_path(cgroup, order))
                && budget.take(sort, container.as_deref(), self.seen.series(cgroup))
        });
        (wanted, budget.left_out)
    }
}

/// Reorders the ordinary users' containers, so that the first one of each user comes before the second one of any user.
fn take_turns(cgroups: &mut [&Cgroup]) {
    let is_users = |cgroup: &&Cgroup| Sort::of(cgroup) == Sort::User;
    let Some(begin) = cgroups.iter().position(is_users) else {
        return;
    };
    let length = cgroups.iter().skip(begin).take_while(|it| is_users(it));
    let end = begin + length.count();
    let Some(users) = cgroups.get_mut(begin..end) else {
        return;
    };
    let mut before: HashMap<u32, u32> = HashMap::new();
    users.sort_by_cached_key(|cgroup| {
        let before = before.entry(cgroup.user()).or_default();
        *before += 1;
        *before
    });
}

/// Returns the container that a cgroup is, or is below, as the path of the container's cgroup. Several containers may
/// have the same id.
fn container_of(cgroup: &Cgroup) -> Option<String> {
    (cgroup.rank == Rank::Container).then(|| cgroup.container.cgroup.clone())
}

/// The most series that each cgroup has had in a scrape. So a cgroup that is too large is not read again at each
/// scrape.
#[derive(Debug, Default)]
pub struct Seen(HashMap<CgroupKey, u32>);

impl Seen {
    fn key(cgroup: &Cgroup) -> Option<CgroupKey> {
        cgroup.directories.first().map(|directory| directory.key)
    }

    pub fn series(&self, cgroup: &Cgroup) -> u32 {
        let seen = Self::key(cgroup).and_then(|key| self.0.get(&key));
        seen.copied().unwrap_or(EXPECTED)
    }

    pub fn set(&mut self, key: CgroupKey, series: u32) {
        let seen = self.0.entry(key).or_default();
        *seen = series.max(*seen);
    }

    /// Forgets all cgroups but these.
    pub fn retain<'a>(&mut self, cgroups: impl Iterator<Item = &'a Cgroup>) {
        let there = cgroups.filter_map(Self::key);
        let there = there.filter_map(|key| Some((key, self.0.remove(&key)?)));
        self.0 = there.collect::<Vec<_>>().into_iter().collect();
    }
}

#[cfg(test)]
mod tests;
