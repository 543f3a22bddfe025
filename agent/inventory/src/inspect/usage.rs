//! The resources that a process's container uses now, or without one the process's cgroup.

use agent_host::Error;
use agent_host::cgroup::Directory;
use agent_host::cgroup_files::file_with;
use agent_host::hierarchy::{Hierarchies, Mounted};
use agent_host::membership::Membership;
use agent_host::reading::Field;
use serde::Serialize;

use super::{Fact, source};

/// The use of resources, each of the cgroup and those below it.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// The memory in use, with the page cache.
    pub memory_bytes: Fact<u64>,
    /// The memory in use, without the inactive part of the page cache.
    pub memory_working_set_bytes: Fact<u64>,
    /// The CPU time that was used.
    pub cpu_seconds: Fact<f64>,
    /// The number of processes and threads.
    pub threads: Fact<u64>,
    /// The number of processes that the OOM killer killed. Where the container is not known, of the cgroup without
    /// those below it.
    pub oom_kills: Fact<u64>,
}

/// Reads the use of the cgroups of `membership`.
pub(super) fn read(hierarchies: &Hierarchies, membership: &Membership) -> Usage {
    let directory = |mounted: Option<&Mounted>| {
        let mounted = mounted?;
        hierarchies.directory(mounted, membership.path(mounted)?)
    };
    let memory = directory(hierarchies.of_controller("memory"));
    let both = |it: &Directory| it.memory();
    let kills = |it: &Directory| match it.oom_kills() {
        Ok(Some(kills)) => Ok(kills),
        Ok(None) => Err(Error::Gone {
            path: it.path.join("memory.oom_control oom_kill"),
        }),
        Err(error) => Err(error),
    };
    let cpu = directory(hierarchies.of_cpu_usage());
    let seconds = |it: &Directory| it.cpu_usage().map(|it| it.as_secs_f64());
    let threads = directory(hierarchies.of_controller("pids"));
    Usage {
        memory_bytes: fact(&memory, Field::MemoryUsage, |it| Ok(both(it)?.usage)),
        memory_working_set_bytes: fact(
            &memory,
            Field::InactiveFile,
            |it| Ok(both(it)?.working_set),
        ),
        cpu_seconds: fact(&cpu, Field::CpuUsage, seconds),
        threads: fact(&threads, Field::Threads, |it| it.number("pids.current")),
        oom_kills: fact(&memory, Field::MemoryUsage, kills),
    }
}

fn fact<T>(
    directory: &Option<Directory>,
    field: Field,
    read: impl Fn(&Directory) -> Result<T, Error>,
) -> Fact<T> {
    let Some(directory) = directory else {
        return Fact {
            value: None,
            source: String::new(),
            unreadable: Some("no cgroup of the process counts it".to_owned()),
        };
    };
    let file = file_with(field, directory.version).map(|(file, _)| file.name);
    let path = directory.path.join(file.unwrap_or_default());
    Fact::of(source(&path), read(directory))
}
