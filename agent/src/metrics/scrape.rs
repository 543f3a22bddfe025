//! A scrape: all that `/metrics` says, as it is now.

use std::{
    collections::{HashMap, HashSet},
    time::{Instant, SystemTime},
};

use agent_ebpf::{CONSTRAINTS, CgroupKey, Counts};

use super::{
    agent::{AgentMetrics, EncodeError, Scrape},
    container::{self, Cgroup, Directories, HostCounts, Live},
    text::{Labels, Writer},
};
use crate::{
    container::{
        place::UNKNOWN,
        registry::{self, ROOT_ID, Registry},
    },
    event::clock::Clock,
    host::hierarchy::Hierarchies,
    kernel::counts::CountsError,
    lock::lock,
    pipeline::Shared,
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    #[error(transparent)]
    Counts(#[from] CountsError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What the kernel counted, cgroup by cgroup.
type AllCounts = HashMap<CgroupKey, Counts>;

/// The text, in chunks.
///
/// # Errors
/// Where the kernel's counters cannot be read.
pub fn scrape(shared: &Shared, agent: &AgentMetrics) -> Result<Vec<String>, ScrapeError> {
    let started = Instant::now();
    let (cgroups, overflow, host) = {
        // Both at the same moment: what was counted in a cgroup moves from the kernel to the
        // registry when the cgroup is removed, and must be added up once.
        let registry = lock(&shared.registry);
        let kernel = lock(&shared.counts);
        let (counts, overflow) = kernel.all();
        let mut host = HostCounts {
            oom_kills: [0; CONSTRAINTS],
        };
        for (constraint, kills) in kernel.oom_kills()? {
            host.oom_kills[constraint as usize] = kills;
        }
        drop(kernel);
        let cgroups = cgroups(&registry, &shared.hierarchies, &counts);
        (cgroups, overflow, host)
    };
    let mut chunks = Vec::new();
    let mut out = Writer::new(|chunk| chunks.push(chunk));
    let errors = container::write(&cgroups, &host, SystemTime::now(), &mut out);
    out.finish();
    if let Some(error) = &errors.first {
        tracing::warn!(%error, count = errors.count, "files of cgroups cannot be read");
    }
    let calls: u64 = overflow
        .calls
        .iter()
        .flatten()
        .chain(&overflow.failed)
        .sum();
    let scrape = Scrape {
        duration: started.elapsed(),
        read_errors: errors.count,
        overflow: calls + overflow.oom_kills + overflow.oom_limit_kills,
    };
    chunks.push(agent.text(shared, scrape)?);
    Ok(chunks)
}

/// Every cgroup that has series: the root, the living, and of the dead the last of each path.
fn cgroups(registry: &Registry, hierarchies: &Hierarchies, counts: &AllCounts) -> Vec<Cgroup> {
    let mut all: Vec<&registry::Cgroup> = registry.all().collect();
    // The living first, then the dead, the latest first.
    all.sort_by_key(|cgroup| {
        std::cmp::Reverse(cgroup.gone.map_or((true, None), |gone| (false, Some(gone))))
    });
    let mut paths: HashSet<&str> = HashSet::new();
    let mut cgroups = vec![root(hierarchies, counts)];
    for cgroup in all {
        // One path is one series, and the living have it.
        let path = label_path(cgroup, hierarchies);
        if paths.insert(path) {
            cgroups.push(series(cgroup, path, hierarchies, counts));
        }
    }
    cgroups.push(unknown(registry, counts));
    cgroups
}

/// What was counted in cgroups that are not known, together.
fn unknown(registry: &Registry, counts: &AllCounts) -> Cgroup {
    let mut sum = *registry.unknown();
    let strangers = counts.iter().filter(|(key, _)| key.id != ROOT_ID);
    strangers
        .filter(|(key, _)| registry.get(**key).is_none())
        .for_each(|(_, counts)| sum.add(counts));
    Cgroup {
        labels: Labels::new(UNKNOWN, "", ""),
        oom_kills: sum.oom_kills,
        counts: sum,
        live: None,
    }
}

/// The path in the first hierarchy, in the order in which tasks are counted, that has the cgroup.
fn label_path<'a>(cgroup: &'a registry::Cgroup, hierarchies: &Hierarchies) -> &'a str {
    let order = ["memory", "pids", "cpu"];
    let ids = order
        .iter()
        .filter_map(|controller| hierarchies.of_controller(controller));
    let in_order = ids.map(|mounted| mounted.id).find_map(|id| {
        cgroup
            .directories
            .iter()
            .find(|directory| directory.key.hierarchy == id)
    });
    let directory = in_order.or_else(|| cgroup.directories.first());
    directory.map_or("", |directory| &directory.path)
}

fn series(
    cgroup: &registry::Cgroup,
    path: &str,
    hierarchies: &Hierarchies,
    counts: &AllCounts,
) -> Cgroup {
    let named = cgroup.is_container();
    let (image, name) = if named {
        (
            cgroup.container.image.as_str(),
            cgroup.container.name.as_str(),
        )
    } else {
        ("", "")
    };
    let mut sum = cgroup.past;
    for directory in &cgroup.directories {
        if let Some(counts) = counts.get(&directory.key) {
            sum.add(counts);
        }
    }
    let live = cgroup.gone.is_none().then(|| Live {
        directories: directories(cgroup, hierarchies),
        start_time: cgroup.created,
    });
    Cgroup {
        labels: Labels::new(path, image, name),
        counts: sum,
        oom_kills: sum.oom_kills,
        live,
    }
}

fn directories(cgroup: &registry::Cgroup, hierarchies: &Hierarchies) -> Directories {
    let at = |mounted: Option<&crate::host::hierarchy::Mounted>| {
        let mounted = mounted?;
        let mut living = cgroup
            .directories
            .iter()
            .filter(|directory| !directory.gone);
        let directory = living.find(|directory| directory.key.hierarchy == mounted.id)?;
        hierarchies.directory(mounted, &directory.path)
    };
    Directories {
        cpu: at(hierarchies.of_cpu_usage()),
        memory: at(hierarchies.of_controller("memory")),
    }
}

/// The root of all hierarchies: the host.
fn root(hierarchies: &Hierarchies, counts: &AllCounts) -> Cgroup {
    let mut sum = Counts::default();
    counts
        .iter()
        .filter(|(key, _)| key.id == ROOT_ID)
        .for_each(|(_, counts)| sum.add(counts));
    let at = |mounted| hierarchies.directory(mounted, "/");
    let directories = Directories {
        cpu: hierarchies.of_cpu_usage().and_then(at),
        memory: hierarchies.of_controller("memory").and_then(at),
    };
    Cgroup {
        labels: Labels::new("/", "", ""),
        oom_kills: sum.oom_kills,
        counts: sum,
        live: Some(Live {
            directories,
            start_time: Clock::now().wall(0),
        }),
    }
}
