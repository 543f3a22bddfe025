//! The families of processes, threads, and the times when the cgroup was made and last seen.

use agent_host::reading::Field;

use super::{Cgroup, Source};
use crate::catalogue;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::PROCESSES,
        write: |cgroup, out| out.number(processes(cgroup)),
    },
    Source {
        metric: &catalogue::THREADS,
        write: |cgroup, out| out.number(cgroup.number(Field::Threads)),
    },
    Source {
        metric: &catalogue::THREADS_MAX,
        write: |cgroup, out| out.limit(cgroup.reading.limit(Field::ThreadsMax)),
    },
    Source {
        metric: &catalogue::START_TIME,
        write: |cgroup, out| out.one(cgroup.live.as_ref().map(|live| live.start_time.into())),
    },
    Source {
        metric: &catalogue::LAST_SEEN,
        write: |cgroup, out| out.one(cgroup.live.as_ref().map(|live| live.last_seen.into())),
    },
];

fn processes(cgroup: &Cgroup) -> Option<u64> {
    Some(cgroup.live.as_ref()?.tasks?.processes)
}
