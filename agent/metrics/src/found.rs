//! The cgroups of a scrape: which of them are read, which have series, and the values that are not from their own
//! files.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_ebpf::{CgroupKey, Counts};
use agent_host::devices::Devices;
use agent_host::filesystems::Filesystem;
use agent_host::hierarchy::Hierarchies;
use agent_host::kept::{Directory, ReadErrors};
use agent_host::reading::Field;
use agent_host::system::Capacity;
use agent_model::clock::Clock;
use agent_model::labels::PodName;
use agent_registry::location::UNKNOWN;
use agent_registry::path::{PathIdentity, identify, is_pod};
use agent_registry::registry;
use agent_registry::registry::{ROOT_ID, Registry};

use super::container::{Cgroup, Directories, Live, Source, count_series, is_drifting, set_bounds};
use super::namespaces::{Candidates, HOST};
use super::sandboxes::Sandboxes;
use super::series::{Bounds, Budget, Choice, LeftOut, Place, Seen, Sort};
use super::tasks::AllTasks;
use super::text::Labels;
use super::which;

/// The counts of the BPF programs, by cgroup.
pub type AllCounts = HashMap<CgroupKey, Counts>;

/// The key under which the kernel side counts what is in no cgroup but roots.
const ROOT: CgroupKey = CgroupKey {
    id: ROOT_ID,
    hierarchy: 0,
    zero: 0,
};

/// The cgroups of a scrape. `directories` and `places` have an element for each.
#[derive(Default)]
pub struct Found {
    pub cgroups: Vec<Cgroup>,
    pub directories: Vec<Directories>,
    places: Vec<Place>,
    pub candidates: Candidates,
    pub left_out: LeftOut,
    /// The labels of containers that no series has.
    pub labels_left_out: u64,
}

impl Found {
    /// Collects the cgroups to read: the root, the cgroups that `choice` selects, their ancestors, and the sum of the
    /// unknown cgroups. The registry offers the existing cgroups, and the removed ones in which a rare event happened.
    pub fn of(
        registry: &Registry,
        hierarchies: &Hierarchies,
        counts: &AllCounts,
        choice: Choice<'_>,
    ) -> Self {
        choice.seen.retain(registry.with_series());
        let order = in_order(hierarchies);
        let mut found = Self::default();
        let (root, directories) = root(hierarchies, counts);
        found.candidates.set_host(registry.host());
        found.push(root, directories, Place::Always);
        let (chosen, left_out) = choice.of(registry, &order);
        found.left_out = left_out;
        let above = which::above(chosen.iter().copied());
        let pods = pods(registry);
        let mut paths: HashSet<&str> = HashSet::new();
        for cgroup in &chosen {
            let path = label_path(cgroup, &order);
            paths.insert(path);
            let (labels, missing) = labels(cgroup, path, &pods);
            found.labels_left_out += missing;
            found.add(registry, cgroup, labels, counts, Place::of(cgroup));
        }
        let above = registry.all().filter(|it| which::is_among(it, &above));
        for cgroup in above {
            let path = label_path(cgroup, &order);
            if paths.insert(path) {
                let labels = Labels::new(path, "", "");
                found.add(registry, cgroup, labels, counts, Place::Above);
            }
        }
        found.push(unknown(registry, counts), Directories::new(), Place::Always);
        found
    }

    fn add(
        &mut self,
        registry: &Registry,
        cgroup: &registry::Cgroup,
        labels: Labels,
        counts: &AllCounts,
        place: Place,
    ) {
        self.candidates.add(self.cgroups.len(), cgroup);
        let mut series = series(cgroup, labels, counts);
        if registry.own_of(cgroup).is_some() {
            series.counts = None;
        }
        self.push(series, directories_of(cgroup), place);
    }

    fn push(&mut self, cgroup: Cgroup, directories: Directories, place: Place) {
        self.cgroups.push(cgroup);
        self.directories.push(directories);
        self.places.push(place);
    }

    /// Keeps the cgroups that have series, now that the number of series of each is known.
    pub fn retain_bounded(&mut self, bounds: Bounds, seen: &mut Seen, sources: &[&Source]) {
        let mut budget = Budget::new(bounds);
        let mut places = mem::take(&mut self.places).into_iter();
        self.cgroups.retain(|cgroup| match places.next() {
            Some(Place::Always) => true,
            Some(Place::Chosen {
                sort,
                container,
                key,
            }) => {
                let series = count_series(cgroup, sources);
                if let Some(key) = key {
                    seen.set(key, series);
                }
                budget.take(sort, container.as_deref(), series)
            }
            Some(Place::Above) | None => false,
        });
        for (sum, more) in self.left_out.iter_mut().zip(budget.left_out) {
            for (sum, more) in sum.iter_mut().zip(more) {
                *sum += more;
            }
        }
    }

    pub fn set_tasks(&mut self, hierarchies: &Hierarchies, tasks: Option<&AllTasks>) {
        let Some(tasks) = tasks else { return };
        let mut order = in_order(hierarchies);
        order.extend(hierarchies.by_id(0).map(|v2| v2.id));
        let cgroups = self.cgroups.iter_mut().zip(&self.directories);
        for (index, (cgroup, directories)) in cgroups.enumerate() {
            let key = order.iter().find_map(|hierarchy| {
                let mut keys = directories.iter().map(|directory| directory.key);
                keys.find(|key| key.hierarchy == *hierarchy)
            });
            // A thread that is in no other cgroup counts under the root of v2.
            let key = key.map(|key| if index == HOST { ROOT } else { key });
            if let (Some(live), Some(key)) = (&mut cgroup.live, key) {
                live.tasks = Some(tasks.get(key));
            }
        }
    }

    /// Adds the sandboxes. They have no cgroup of their own, so their values are those of threads and network interfaces.
    pub fn add_sandboxes(&mut self, sandboxes: &Sandboxes, tasks: Option<&AllTasks>) {
        let clock = Clock::now();
        for (at, sandbox) in sandboxes.all.iter().enumerate() {
            let start_time = clock.wall(sandbox.eldest.start_time);
            let cgroup = Cgroup {
                counts: None,
                live: Some(Live {
                    tasks: tasks.and_then(|tasks| tasks.by_sandbox.get(at).copied()),
                    ..live(start_time)
                }),
                ..Cgroup::new(
                    Labels::new(&sandbox.container.name, "", ""),
                    Counts::default(),
                )
            };
            let place = Place::Chosen {
                sort: Sort::Cgroup,
                container: None,
                key: None,
            };
            self.candidates
                .add_first(self.cgroups.len(), &sandbox.eldest, false);
            self.push(cgroup, Directories::new(), place);
        }
    }

    pub fn set_bounds(&mut self, hierarchies: &Hierarchies) {
        let of = |controller: &str| {
            let mounted = hierarchies.of_controller(controller)?;
            Some((mounted.id, mounted.version))
        };
        set_bounds(&mut self.cgroups, &self.directories, of);
    }

    /// Returns the units whose limits are not as intended, by the paths of their cgroups.
    pub fn drifting_units(&self) -> Vec<String> {
        let cgroups = self.cgroups.iter().filter(|it| is_drifting(it));
        cgroups.filter_map(|it| it.unit.clone()).collect()
    }

    /// Sets the root's limits to the memory and swap of the host, as cAdvisor does.
    pub fn set_capacity(&mut self, root: &Path, errors: &mut ReadErrors) {
        if let Some(capacity) = errors.keep(Capacity::read(root))
            && let Some(host) = self.cgroups.get_mut(HOST)
        {
            host.reading.set(Field::MemoryLimit, capacity.memory);
            host.reading.set(Field::SwapLimit, capacity.swap);
        }
    }

    /// Sets the file systems of the host.
    pub fn set_filesystems(&mut self, filesystems: Vec<Filesystem>) {
        if let Some(host) = self.cgroups.get_mut(HOST) {
            host.filesystems = filesystems;
        }
    }

    pub fn set_devices(&mut self, root: &Path) {
        let mut names = Devices::new(root);
        for cgroup in &mut self.cgroups {
            let devices = cgroup.reading.devices.iter();
            cgroup.devices = devices.map(|it| names.name(it.major, it.minor)).collect();
        }
    }
}

/// Returns the hierarchies whose paths identify a cgroup, in the order of preference.
fn in_order(hierarchies: &Hierarchies) -> Vec<u32> {
    let controllers = ["memory", "pids", "cpu"].into_iter();
    let mounted = controllers.filter_map(|controller| hierarchies.of_controller(controller));
    mounted.map(|mounted| mounted.id).collect()
}

/// A time before the epoch, from a clock that is not set, counts as the epoch.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn live(start_time: SystemTime) -> Live {
    Live {
        start_time: since_epoch(start_time),
        last_seen: since_epoch(SystemTime::now()),
        tasks: None,
    }
}

/// Returns the sum of the counts in cgroups that the registry does not know.
fn unknown(registry: &Registry, counts: &AllCounts) -> Cgroup {
    let mut sum = *registry.unknown();
    let strangers = counts.iter().filter(|(key, _)| key.id != ROOT_ID);
    strangers
        .filter(|(key, _)| registry.get(**key).is_none())
        .for_each(|(_, counts)| sum.add(counts));
    Cgroup {
        is_main: true,
        ..Cgroup::new(Labels::new(UNKNOWN, "", ""), sum)
    }
}

/// Returns the cgroup's path in the first hierarchy of `order` that has the cgroup, or else in any hierarchy.
pub fn label_path<'a>(cgroup: &'a registry::Cgroup, order: &[u32]) -> &'a str {
    let in_order = order.iter().find_map(|id| {
        let mut directories = cgroup.directories.iter();
        directories.find(|directory| directory.key.hierarchy == *id)
    });
    let directory = in_order.or_else(|| cgroup.directories.first());
    directory.map_or("", |directory| &directory.path)
}

/// The pods with a running container, by the path of the pod's cgroup. Only engines of root's run pods.
fn pods(registry: &Registry) -> HashMap<&str, PodName> {
    let confirmed = registry.containers();
    let confirmed = confirmed.filter(|it| it.is_confirmed() && it.user() == 0);
    let pods = confirmed.filter_map(|cgroup| {
        let pod = cgroup.container.pod.as_ref()?;
        let path = &*cgroup.container.cgroup;
        let PathIdentity::Container { pod: Some(_), .. } = identify(path).identity else {
            return None;
        };
        let (above, _) = path.rsplit_once('/')?;
        let pod = PodName {
            container: String::new(),
            ..pod.clone()
        };
        Some((above, pod))
    });
    pods.collect()
}

/// The labels of a cgroup, and how many labels of its container are missing.
fn labels(cgroup: &registry::Cgroup, path: &str, pods: &HashMap<&str, PodName>) -> (Labels, u64) {
    if cgroup.is_unit() && !is_pod(path) {
        let labels = Labels::new(path, "", "").of_unit(&cgroup.container.name);
        return labels.with(&cgroup.container.labels);
    }
    let container = Some(&cgroup.container).filter(|_| cgroup.is_container());
    let image = container.map_or("", |it| &*it.image);
    // An unconfirmed container has no name.
    let Some(confirmed) = container.filter(|_| cgroup.is_confirmed()) else {
        let labels = Labels::new(path, image, "");
        return match pods.get(path) {
            Some(pod) if container.is_none() => (labels.in_pod(pod), 0),
            _ => (labels, 0),
        };
    };
    let labels = Labels::new(path, image, &confirmed.name);
    let labels = match &confirmed.pod {
        Some(pod) => labels.in_pod(pod),
        None => labels,
    };
    labels.with(&confirmed.labels)
}

fn series(cgroup: &registry::Cgroup, labels: Labels, counts: &AllCounts) -> Cgroup {
    let is_container = cgroup.is_container();
    Cgroup {
        is_main: is_container,
        is_container,
        is_gone: cgroup.gone.is_some(),
        live: cgroup.gone.is_none().then(|| live(cgroup.created)),
        intended: cgroup.intended.clone(),
        unit: cgroup.is_unit().then(|| cgroup.container.cgroup.clone()),
        ..Cgroup::new(labels, cgroup.counted(counts))
    }
}

fn directories_of(cgroup: &registry::Cgroup) -> Directories {
    let living = cgroup.directories.iter().filter(|it| !it.gone);
    let living = living.map(|directory| Directory {
        key: directory.key,
        path: Arc::clone(&directory.path),
    });
    living.collect()
}

/// Returns the root cgroup of all hierarchies, which stands for the host.
fn root(hierarchies: &Hierarchies, counts: &AllCounts) -> (Cgroup, Directories) {
    let mut sum = Counts::default();
    counts
        .iter()
        .filter(|(key, _)| key.id == ROOT_ID)
        .for_each(|(_, counts)| sum.add(counts));
    let directories = hierarchies.all().iter().map(|mounted| Directory {
        key: CgroupKey {
            id: ROOT_ID,
            hierarchy: mounted.id,
            zero: 0,
        },
        path: "/".into(),
    });
    let cgroup = Cgroup {
        is_main: true,
        live: Some(live(Clock::now().wall(0))),
        ..Cgroup::new(Labels::new("/", "", ""), sum)
    };
    (cgroup, directories.collect())
}
