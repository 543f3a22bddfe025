//! The highest values of all samples of a run.

use std::time::{Duration, Instant};

use agent_host::reading::Field;

use super::sample::Sample;

/// The time between two samples. A limit that another process changes back sooner shows in what the kernel counted.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// `None`: no sample said it.
#[derive(Clone, Debug, Default)]
pub struct Peaks {
    /// Bytes, bytes, tasks.
    pub memory: Option<u64>,
    pub swap: Option<u64>,
    pub pids: Option<u64>,
    /// The CPUs that processes of the cgroup were allowed to use, all together.
    pub allowed: Vec<String>,
    /// The highest numbers of threads that wanted a CPU at one look, and at another one.
    pub wanting: [Option<usize>; 2],
    /// When threads that wanted a CPU were counted last.
    pub counted: Option<Instant>,
    /// CPU time in microseconds that a quota gives later.
    pub burst: Option<u64>,
}

impl Peaks {
    pub fn add(&mut self, sample: &Sample) {
        let number = |field| sample.reading.number(field);
        self.memory = self.memory.max(number(Field::MemoryUsage));
        self.swap = self.swap.max(number(Field::Swap));
        self.pids = self.pids.max(number(Field::Threads));
        self.burst = self.burst.max(sample.hits.burst);
        for allowed in &sample.processes.allowed {
            if !self.allowed.contains(allowed) {
                self.allowed.push(allowed.clone());
            }
        }
        self.count(sample.at, sample.processes.runnable);
    }

    /// Looks that follow close on each other are one: the begin of a run has several.
    fn count(&mut self, at: Instant, now: Option<usize>) {
        let before = self.counted;
        if before.is_some_and(|before| at.saturating_duration_since(before) < PAUSE / 2) {
            return;
        }
        self.counted = Some(at);
        let [most, next] = self.wanting;
        self.wanting = [most.max(now), next.max(most.min(now))];
    }

    /// So many threads wanted a CPU at the same time, at two looks at least: what is seen once may be two threads of which
    /// one wakes the other up, or a command that starts.
    pub fn wanting(&self) -> Option<usize> {
        let [most, next] = self.wanting;
        next.or(most.map(|_| 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_close_to_each_other_are_one() {
        let wanting = |milliseconds: [u32; 3], wanting: [usize; 3]| {
            let start = Instant::now();
            let mut peaks = Peaks::default();
            for (after, now) in milliseconds.into_iter().zip(wanting) {
                peaks.count(
                    start + after * std::time::Duration::from_millis(1),
                    Some(now),
                );
            }
            peaks.wanting()
        };
        assert_eq!(wanting([0, 50, 100], [1, 4, 3]), Some(3));
        assert_eq!(wanting([0, 50, 53], [1, 4, 4]), Some(1));
        assert_eq!(wanting([0, 2, 50], [0, 4, 4]), Some(0));
    }
}
