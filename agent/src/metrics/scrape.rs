//! A scrape: all that `/metrics` says, as it is now.

use std::{
    collections::{HashMap, HashSet},
    iter, mem,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use agent_ebpf::{CgroupKey, Constraint, Counts, Task};

use super::{
    agent::{AgentMetrics, Scrape},
    catalogue,
    container::{Cgroup, Directories, Live, SOURCES, count_series, set_bounds},
    namespaces::{Candidates, HOST},
    series::{Bounds, Budget, Choice, LeftOut, Place, Seen},
    text::{Labels, Value, Writer},
    which::{self, Which},
};
use crate::{
    container::{
        place::UNKNOWN,
        registry::{self, ROOT_ID, Registry},
    },
    event::clock::Clock,
    host::{
        changes::watches_allowed,
        devices::Devices,
        hierarchy::Hierarchies,
        kept::{Directory, Kept, ReadErrors},
        reading::Field,
        system::Capacity,
    },
    kernel::counts::{CountsError, OomKills},
    lock::lock,
    pipeline::Shared,
    sys,
};

/// What the kernel counted, cgroup by cgroup.
type AllCounts = HashMap<CgroupKey, Counts>;

/// Processes of each cgroup.
type Processes = HashMap<CgroupKey, u64>;

/// Descriptors that are kept at most: each costs the kernel some memory.
const DESCRIPTORS_AT_MOST: usize = 32_768;

/// Answers scrapes, with what it keeps between them.
pub struct Scraper {
    kept: Mutex<Kept>,
    agent: AgentMetrics,
    which: Which,
    bounds: Bounds,
    seen: Mutex<Seen>,
}

/// What one scrape found.
struct Answer {
    started: Instant,
    cgroups: Vec<Cgroup>,
    oom_kills: OomKills,
    scrape: Scrape,
}

/// The cgroups of a scrape, where each one's files are, and what it has series as.
#[derive(Default)]
struct Found {
    cgroups: Vec<Cgroup>,
    directories: Vec<Directories>,
    places: Vec<Place>,
    candidates: Candidates,
    left_out: LeftOut,
}

impl Scraper {
    /// Keeps at most half of the descriptors that the process may have open, and 32,768. `which` and `bounds` say which
    /// cgroups have series.
    pub fn new(descriptors: usize, agent: AgentMetrics, which: Which, bounds: Bounds) -> Self {
        Self {
            kept: Mutex::new(Kept::new(
                (descriptors / 2).min(DESCRIPTORS_AT_MOST),
                watches_allowed(Path::new("/")),
            )),
            agent,
            which,
            bounds,
            seen: Mutex::default(),
        }
    }

    /// Reads all, and makes the text of it, in chunks.
    ///
    /// # Errors
    /// Where the kernel's counters cannot be read.
    pub fn scrape(&self, shared: &Shared) -> Result<impl Iterator<Item = String>, CountsError> {
        let answer = self.read(shared)?;
        Ok(self.text(shared, answer))
    }

    fn read(&self, shared: &Shared) -> Result<Answer, CountsError> {
        let started = Instant::now();
        let root = Path::new("/");
        let processes = processes(shared);
        let (mut found, overflow, oom_kills) = {
            // Both at the same moment: what was counted in a cgroup moves from the kernel to the
            // registry when the cgroup is removed, and must be added up once.
            let registry = lock(&shared.registry);
            let kernel = lock(&shared.counts);
            let (counts, overflow) = kernel.all();
            let oom_kills = kernel.oom_kills()?;
            drop(kernel);
            let choice = Choice {
                which: self.which,
                bounds: self.bounds,
                seen: &mut lock(&self.seen),
            };
            let found = Found::of(&registry, &shared.hierarchies, &counts, choice);
            (found, overflow, oom_kills)
        };
        let mut kept = lock(&self.kept);
        let (readings, mut errors) = kept.read(&shared.hierarchies, &found.directories);
        let kept_sizes = kept.sizes();
        drop(kept);
        for (cgroup, reading) in found.cgroups.iter_mut().zip(readings) {
            cgroup.reading = reading;
        }
        found.set_processes(&shared.hierarchies, processes.as_ref());
        found.set_bounds(&shared.hierarchies);
        // What is not limited has what the host has: no limit for those below it.
        found.set_capacity(root, &mut errors);
        found.set_devices(root);
        let left_out = found.candidates.read(root, &mut found.cgroups, &mut errors);
        found.retain_bounded(self.bounds, &mut lock(&self.seen));
        if let Some(error) = &errors.first {
            tracing::warn!(%error, count = errors.count, "files of cgroups cannot be read");
        }
        let scrape = Scrape {
            duration: started.elapsed(),
            read_errors: errors.count,
            overflow: overflow.total(),
            kept: kept_sizes,
            interfaces_left_out: left_out,
            devices_left_out: found.cgroups.iter().map(|it| it.reading.left_out).sum(),
            cgroups_left_out: found.left_out,
        };
        Ok(Answer {
            started,
            cgroups: found.cgroups,
            oom_kills,
            scrape,
        })
    }

    /// The text of an answer.
    fn text(&self, shared: &Shared, answer: Answer) -> impl Iterator<Item = String> {
        let Answer {
            started,
            mut cgroups,
            oom_kills,
            mut scrape,
        } = answer;
        let mut sources = SOURCES.iter().copied().flatten();
        let mut is_done = false;
        let chunks = iter::from_fn(move || {
            let mut out = Writer::default();
            for source in sources.by_ref() {
                source.write(&cgroups, &mut out);
                if out.has_chunk() {
                    return Some(out.take());
                }
            }
            if is_done {
                return None;
            }
            is_done = true;
            drop(mem::take(&mut cgroups));
            // What a scrape needs, the next one needs only later.
            sys::trim_heap();
            write_oom_kills(&oom_kills, &mut out);
            scrape.duration = started.elapsed();
            let mut chunks = out.take();
            match self.agent.text(shared, scrape) {
                Ok(text) => chunks.push(text),
                Err(error) => tracing::error!(%error, "the answer to a scrape is cut short"),
            }
            Some(chunks)
        });
        chunks.flatten()
    }
}

/// How many processes each cgroup has, in all hierarchies that the kernel side looks at.
fn processes(shared: &Shared) -> Option<Processes> {
    let tasks = lock(&shared.kernel).snapshot();
    let tasks = tasks.inspect_err(|error| tracing::warn!(%error, "processes cannot be counted"));
    let mut processes = Processes::new();
    for Task { cgroups, .. } in tasks.ok()? {
        for (id, hierarchy) in cgroups.ids.into_iter().zip(cgroups.hierarchies) {
            let key = CgroupKey {
                id,
                hierarchy,
                zero: 0,
            };
            *processes.entry(key).or_default() += 1;
        }
    }
    Some(processes)
}

fn write_oom_kills(kills: &OomKills, out: &mut Writer) {
    let mut family = out.family(&catalogue::HOST_OOM_KILLS);
    for (constraint, count) in kills {
        family.sample(
            &[Constraint::name(*constraint)],
            None,
            Value::Number(*count),
        );
    }
}

impl Found {
    /// Every cgroup that has series, and those above: the root, the living, and of the dead the last of each path.
    fn of(
        registry: &Registry,
        hierarchies: &Hierarchies,
        counts: &AllCounts,
        choice: Choice<'_>,
    ) -> Self {
        choice.seen.retain(registry.all());
        let order = in_order(hierarchies);
        let mut found = Self::default();
        let (root, directories) = root(hierarchies, counts);
        found.candidates.set_host(registry.host());
        found.push(root, directories, Place::Always);
        let (chosen, left_out) = choice.of(registry, &order);
        found.left_out = left_out;
        let above = which::above(chosen.iter().copied());
        let mut paths: HashSet<&str> = HashSet::new();
        for cgroup in &chosen {
            let path = label_path(cgroup, &order);
            paths.insert(path);
            found.add(cgroup, path, counts, Place::of(cgroup));
        }
        let above = registry.all().filter(|it| which::is_among(it, &above));
        for cgroup in above {
            let path = label_path(cgroup, &order);
            if paths.insert(path) {
                found.add(cgroup, path, counts, Place::Above);
            }
        }
        found.push(unknown(registry, counts), Directories::new(), Place::Always);
        found
    }

    fn add(&mut self, cgroup: &registry::Cgroup, path: &str, counts: &AllCounts, place: Place) {
        self.candidates.add(self.cgroups.len(), cgroup);
        self.push(series(cgroup, path, counts), directories_of(cgroup), place);
    }

    fn push(&mut self, cgroup: Cgroup, directories: Directories, place: Place) {
        self.cgroups.push(cgroup);
        self.directories.push(directories);
        self.places.push(place);
    }

    /// Keeps those that have series, as many as there may be of what was read.
    fn retain_bounded(&mut self, bounds: Bounds, seen: &mut Seen) {
        let mut budget = Budget::new(bounds);
        let mut places = mem::take(&mut self.places).into_iter();
        self.cgroups.retain(|cgroup| match places.next() {
            Some(Place::Always) => true,
            Some(Place::Chosen {
                sort,
                container,
                key,
            }) => {
                let series = count_series(cgroup);
                key.map(|key| seen.set(key, series));
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

    fn set_processes(&mut self, hierarchies: &Hierarchies, processes: Option<&Processes>) {
        let Some(processes) = processes else { return };
        let mut order = in_order(hierarchies);
        order.extend(hierarchies.by_id(0).map(|v2| v2.id));
        for (cgroup, directories) in self.cgroups.iter_mut().zip(&self.directories) {
            let key = order.iter().find_map(|hierarchy| {
                let mut keys = directories.iter().map(|directory| directory.key);
                keys.find(|key| key.hierarchy == *hierarchy)
            });
            if let (Some(live), Some(key)) = (&mut cgroup.live, key) {
                live.processes = Some(processes.get(&key).copied().unwrap_or(0));
            }
        }
    }

    fn set_bounds(&mut self, hierarchies: &Hierarchies) {
        let of = |controller: &str| {
            let mounted = hierarchies.of_controller(controller)?;
            Some((mounted.id, mounted.version))
        };
        set_bounds(&mut self.cgroups, &self.directories, of);
    }

    /// The host's limits are what it has, as cAdvisor says them.
    fn set_capacity(&mut self, root: &Path, errors: &mut ReadErrors) {
        if let Some(capacity) = errors.keep(Capacity::read(root))
            && let Some(host) = self.cgroups.get_mut(HOST)
        {
            host.reading.set(Field::MemoryLimit, capacity.memory);
            host.reading.set(Field::SwapLimit, capacity.swap);
        }
    }

    fn set_devices(&mut self, root: &Path) {
        let mut names = Devices::new(root);
        for cgroup in &mut self.cgroups {
            let devices = cgroup.reading.devices.iter();
            cgroup.devices = devices.map(|it| names.name(it.major, it.minor)).collect();
        }
    }
}

/// The hierarchies in the order in which tasks are counted, before v2.
fn in_order(hierarchies: &Hierarchies) -> Vec<u32> {
    let controllers = ["memory", "pids", "cpu"].into_iter();
    let mounted = controllers.filter_map(|controller| hierarchies.of_controller(controller));
    mounted.map(|mounted| mounted.id).collect()
}

/// A time before the epoch, as a clock that is not set gives, is the epoch.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn live(start_time: SystemTime) -> Live {
    Live {
        start_time: since_epoch(start_time),
        last_seen: since_epoch(SystemTime::now()),
        processes: None,
    }
}

/// What was counted in cgroups that are not known, together.
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

/// The path in the first of the hierarchies that has the cgroup.
pub(super) fn label_path<'a>(cgroup: &'a registry::Cgroup, order: &[u32]) -> &'a str {
    let in_order = order.iter().find_map(|id| {
        let mut directories = cgroup.directories.iter();
        directories.find(|directory| directory.key.hierarchy == *id)
    });
    let directory = in_order.or_else(|| cgroup.directories.first());
    directory.map_or("", |directory| &directory.path)
}

fn series(cgroup: &registry::Cgroup, path: &str, counts: &AllCounts) -> Cgroup {
    let is_container = cgroup.is_container();
    let container = Some(&cgroup.container).filter(|_| is_container);
    let (image, name) = container.map_or(("", ""), |it| (&it.image, &it.name));
    Cgroup {
        is_main: is_container,
        is_container,
        live: cgroup.gone.is_none().then(|| live(cgroup.created)),
        intended: cgroup.intended.clone(),
        ..Cgroup::new(Labels::new(path, image, name), cgroup.counted(counts))
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

/// The root of all hierarchies: the host.
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
