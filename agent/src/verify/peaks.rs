//! The most that was seen in any sample of a run.

use super::sample::Sample;
use crate::host::reading::Field;

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
        let [most, next] = self.wanting;
        let now = sample.processes.runnable;
        self.wanting = [most.max(now), next.max(most.min(now))];
    }

    /// So many threads wanted a CPU at the same time, at two looks at least: what is seen once may be two threads of which
    /// one wakes the other up.
    pub fn wanting(&self) -> Option<usize> {
        let [most, next] = self.wanting;
        next.or(most.map(|_| 0))
    }
}
