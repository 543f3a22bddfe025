//! Chooses the thread that confirms a claim, so that no flood of claims delays the thread that reads the rings.
//!
//! The reading thread confirms claims itself, so that a container has its name from its first event on. The time that
//! it spends on claims that no record confirms, and on those of users' cgroups, is bounded. Further claims go to the
//! thread `witness`, which takes one from each parent cgroup in turn: a flood below one parent does not delay the
//! claims of others.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use agent_model::lock::lock;
use agent_registry::claim::{Claim, Confirmation};

/// The reading thread spends at most one part in this many of its time on claims without a confirmation by root's
/// records.
const SHARE: u32 = 8;

/// The most of such time that it may save up.
const SAVED_AT_MOST: Duration = Duration::from_millis(50);

/// The most claims that wait. The pipeline finds further ones again when there is room.
const WAITING_AT_MOST: usize = 4096;

/// The time that the reading thread may still spend on claims without a confirmation by root's records.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: Duration,
    since: Instant,
}

impl Allowance {
    pub(crate) fn new() -> Self {
        Self {
            left: SAVED_AT_MOST,
            since: Instant::now(),
        }
    }

    pub(crate) fn is_left(&mut self) -> bool {
        let earned = self.since.elapsed() / SHARE;
        self.since = Instant::now();
        self.left = (self.left + earned).min(SAVED_AT_MOST);
        !self.left.is_zero()
    }

    pub(crate) fn spend(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }
}

/// Claims that wait for the thread `witness`, and the confirmations that it found.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    state: Mutex<WaitingState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WaitingState {
    claims: Turns,
    found: Vec<Confirmation>,
    stops: bool,
}

/// Claims by parent cgroup. The parents take turns.
#[derive(Debug, Default)]
struct Turns {
    of: HashMap<String, VecDeque<Claim>>,
    order: VecDeque<String>,
    count: usize,
}

impl Turns {
    /// Adds a claim; false if there is no room.
    fn push(&mut self, claim: Claim) -> bool {
        if self.count >= WAITING_AT_MOST {
            return false;
        }
        let parent = Path::new(&claim.cgroup).parent().unwrap_or(Path::new("/"));
        let parent = parent.to_string_lossy().into_owned();
        let claims = self.of.entry(parent.clone()).or_default();
        if claims.is_empty() {
            self.order.push_back(parent);
        }
        claims.push_back(claim);
        self.count += 1;
        true
    }

    fn pop(&mut self) -> Option<Claim> {
        let parent = self.order.pop_front()?;
        let claims = self.of.get_mut(&parent)?;
        let claim = claims.pop_front();
        if claims.is_empty() {
            self.of.remove(&parent);
        } else {
            self.order.push_back(parent);
        }
        self.count -= usize::from(claim.is_some());
        claim
    }
}

impl Waiting {
    /// Adds a claim for the thread `witness`; false if too many wait.
    pub(crate) fn push(&self, claim: Claim) -> bool {
        let pushed = lock(&self.state).claims.push(claim);
        self.changed.notify_one();
        pushed
    }

    /// How many more claims there is room for.
    pub(crate) fn room(&self) -> usize {
        WAITING_AT_MOST.saturating_sub(lock(&self.state).claims.count)
    }

    /// The confirmations since the last call.
    pub(crate) fn take_found(&self) -> Vec<Confirmation> {
        std::mem::take(&mut lock(&self.state).found)
    }

    /// Confirms one claim after the other until [`Self::stop`]. Calls `found` for each confirmation.
    pub(crate) fn serve(&self, look: impl Fn(&Claim) -> Option<Confirmation>, found: impl Fn()) {
        loop {
            let mut state = lock(&self.state);
            let claim = loop {
                if state.stops {
                    return;
                }
                match state.claims.pop() {
                    Some(claim) => break claim,
                    None => {
                        state = self
                            .changed
                            .wait(state)
                            .unwrap_or_else(std::sync::PoisonError::into_inner);
                    }
                }
            };
            drop(state);
            if let Some(confirmation) = look(&claim) {
                lock(&self.state).found.push(confirmation);
                found();
            }
        }
    }

    pub(crate) fn stop(&self) {
        lock(&self.state).stops = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(parent: &str, id: usize) -> Claim {
        Claim::of(&format!("{parent}/docker-{id:064x}.scope")).unwrap()
    }

    #[test]
    fn a_flood_from_one_cgroup_keeps_others_waiting_for_one() {
        let mut turns = Turns::default();
        for id in 0..1000 {
            assert!(turns.push(claim("/evil", id)));
        }
        assert!(turns.push(claim("/system.slice", 7)));
        let taken: Vec<_> = (0..2).filter_map(|_| turns.pop()).collect();
        assert_eq!(taken, [claim("/evil", 0), claim("/system.slice", 7)]);
        assert_eq!((turns.count, turns.order.len()), (999, 1));
        while turns.pop().is_some() {}
        assert_eq!((turns.count, turns.of.len(), turns.order.len()), (0, 0, 0));
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let waiting = Waiting::default();
        for id in 0..WAITING_AT_MOST {
            assert!(waiting.push(claim("/evil", id)));
        }
        assert!(!waiting.push(claim("/evil", 0)));
        assert_eq!(waiting.room(), 0);
    }

    #[test]
    fn what_is_spent_comes_back_in_time() {
        let mut allowance = Allowance::new();
        assert!(allowance.is_left());
        allowance.spend(Duration::MAX);
        allowance.since = Instant::now();
        allowance.left = Duration::ZERO;
        std::thread::sleep(Duration::from_millis(1));
        assert!(allowance.is_left());
        assert!(allowance.left < SAVED_AT_MOST);
    }

    #[test]
    fn what_is_found_is_handed_over() {
        let waiting = Waiting::default();
        waiting.push(claim("/a", 1));
        waiting.push(claim("/a", 2));
        let look = |it: &Claim| (*it == claim("/a", 2)).then(|| Confirmation::of(it));
        waiting.serve(look, || waiting.stop());
        assert_eq!(waiting.take_found(), [Confirmation::of(&claim("/a", 2))]);
        assert_eq!(waiting.take_found(), []);
    }
}
