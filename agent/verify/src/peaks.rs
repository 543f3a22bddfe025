//! The highest values of all samples of a run.

use std::time::{Duration, Instant};

use agent_host::reading::Field;

use super::sample::Sample;

/// The time between two samples. inotify reports a change of the cgroup's own limits that is undone sooner
/// ([`agent_host::writes`]).
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// The peaks. A value is `None` where no sample has it.
#[derive(Clone, Debug, Default)]
pub struct Peaks {
    /// The highest memory usage in bytes, swap usage in bytes, and number of tasks.
    pub memory: Option<u64>,
    pub swap: Option<u64>,
    /// The highest sum of memory and swap usage in one sample, in bytes.
    pub both: Option<u64>,
    pub pids: Option<u64>,
    /// The different sets of CPUs that processes of the cgroup were allowed to use, as the kernel writes them.
    pub allowed: Vec<String>,
    /// The two highest numbers of threads that wanted a CPU at a look; the highest first.
    pub wanting: [Option<usize>; 2],
    /// The time of the last look that counted threads.
    pub counted: Option<Instant>,
    /// The burst that the quota allows, in microseconds of CPU time.
    pub burst: Option<u64>,
}

impl Peaks {
    pub fn add(&mut self, sample: &Sample) {
        let number = |field| sample.reading.number(field);
        let (memory, swap) = (number(Field::MemoryUsage), number(Field::Swap));
        self.memory = self.memory.max(memory);
        self.swap = self.swap.max(swap);
        // Without swap, some kernels have no file for it.
        let both = memory.map(|memory| memory.saturating_add(swap.unwrap_or(0)));
        self.both = self.both.max(both);
        self.pids = self.pids.max(number(Field::Threads));
        self.burst = self.burst.max(sample.hits.burst);
        for allowed in &sample.processes.allowed {
            if !self.allowed.contains(allowed) {
                self.allowed.push(allowed.clone());
            }
        }
        self.count(sample.at, sample.processes.runnable);
    }

    /// Counts the threads of one look. Looks that closely follow each other count as one, because a run begins with
    /// several.
    fn count(&mut self, at: Instant, now: Option<usize>) {
        let before = self.counted;
        if before.is_some_and(|before| at.saturating_duration_since(before) < PAUSE / 2) {
            return;
        }
        self.counted = Some(at);
        let [most, next] = self.wanting;
        self.wanting = [most.max(now), next.max(most.min(now))];
    }

    /// Returns the number of threads that wanted a CPU at the same time at two looks or more. A higher number at a
    /// single look may be a thread that wakes another one up, or a command that starts. `None` means that no look could
    /// count them.
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
