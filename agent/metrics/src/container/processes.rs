//! The families of processes, threads, and the times when the cgroup was made and last seen.

use agent_host::reading::Field;

use super::Source;
use crate::catalogue;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::PROCESSES,
        write: |cgroup, out| out.number(cgroup.live.as_ref().and_then(|live| live.processes)),
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
