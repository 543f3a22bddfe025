//! The load averages of cgroups: the numbers of threads that run or wait for a CPU, and of threads that wait
//! uninterruptibly, each averaged over the last ten seconds.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::park_timeout;
use std::time::Duration;

use agent_ebpf::CgroupKey;
use agent_model::lock::lock;
use agent_tracer::kernel::threads::{self, ThreadActivity};
use rustix::fd::OwnedFd;

/// How often threads are counted. One pass takes about 1 µs for each thread of the host.
const INTERVAL: Duration = Duration::from_secs(5);

/// By how much an older count weighs less after each interval: exp(-5 s / 10 s).
const DECAY: f64 = 0.606_530_659_712_633_4;

/// An average below half of a thousandth is exported as 0, and forgotten.
const LEAST: f64 = 0.000_5;

/// The two averages of one cgroup, without the cgroups below it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Threads that run or wait for a CPU.
    pub running: f64,
    /// Threads that wait uninterruptibly.
    pub uninterruptible: f64,
}

impl Load {
    /// The averages after the next count.
    fn then(self, now: Self) -> Self {
        let next = |before: f64, now: f64| before * DECAY + now * (1.0 - DECAY);
        Self {
            running: next(self.running, now.running),
            uninterruptible: next(self.uninterruptible, now.uninterruptible),
        }
    }
}

/// The averages of all cgroups that have one above 0. `None` until threads were counted.
#[derive(Debug, Default)]
pub struct Loads(Mutex<Option<HashMap<CgroupKey, Load>>>);

impl Loads {
    /// A copy of the averages; `None` where threads are not counted.
    pub fn get(&self) -> Option<HashMap<CgroupKey, Load>> {
        lock(&self.0).clone()
    }

    /// Takes the next count.
    fn add(&self, mut count: HashMap<CgroupKey, Load>) {
        let mut loads = lock(&self.0);
        let Some(loads) = loads.as_mut() else {
            // The first count is the average, as in cAdvisor. A cgroup that is not in it began at 0.
            *loads = Some(count);
            return;
        };
        loads.retain(|key, load| {
            *load = load.then(count.remove(key).unwrap_or_default());
            load.running >= LEAST || load.uninterruptible >= LEAST
        });
        let others = count.into_iter();
        loads.extend(others.map(|(key, now)| (key, Load::default().then(now))));
    }
}

/// Counts until `stop` is set. The thread that sets it wakes this one.
pub(crate) fn watch(program: &OwnedFd, loads: &Loads, stop: &AtomicBool) {
    let mut failed = false;
    while !stop.load(Ordering::Relaxed) {
        match count(program) {
            Ok(count) => {
                loads.add(count);
                failed = false;
            }
            Err(error) => {
                if !failed {
                    tracing::warn!(%error, "threads cannot be counted for load averages");
                }
                failed = true;
            }
        }
        park_timeout(INTERVAL);
    }
}

fn count(program: &OwnedFd) -> io::Result<HashMap<CgroupKey, Load>> {
    let mut count: HashMap<CgroupKey, Load> = HashMap::new();
    threads::all(program, |thread| match ThreadActivity::of(thread) {
        Some(ThreadActivity::Running) => count.entry(thread.cgroup).or_default().running += 1.0,
        Some(ThreadActivity::Uninterruptible) => {
            count.entry(thread.cgroup).or_default().uninterruptible += 1.0;
        }
        _ => {}
    })?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(running: f64) -> HashMap<CgroupKey, Load> {
        let load = Load {
            running,
            uninterruptible: 0.0,
        };
        HashMap::from([(CgroupKey::default(), load)])
    }

    fn running(loads: &Loads) -> Option<f64> {
        loads.get()?.get(&CgroupKey::default()).map(|it| it.running)
    }

    #[test]
    fn an_average_follows_the_counts_and_is_forgotten() {
        let loads = Loads::default();
        assert_eq!(loads.get(), None);
        loads.add(counted(4.0));
        assert_eq!(running(&loads), Some(4.0));
        // After ten seconds, the old count weighs 1/e.
        loads.add(HashMap::new());
        loads.add(HashMap::new());
        let left = running(&loads).unwrap();
        assert!((left - 4.0 * (-1.0_f64).exp()).abs() < 1e-9, "{left}");
        for _ in 0..20 {
            loads.add(HashMap::new());
        }
        assert_eq!(loads.get(), Some(HashMap::new()));
        loads.add(counted(1.0));
        let grown = running(&loads).unwrap();
        assert!((grown - (1.0 - DECAY)).abs() < 1e-9, "{grown}");
    }
}
