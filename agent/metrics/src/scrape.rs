//! The scrape: reads the current values and writes the text of `/metrics`.

use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;
use std::{io, iter, mem};

use agent_ebpf::Constraint;
use agent_host::changes::watches_allowed;
use agent_host::filesystems::Filesystems;
use agent_host::kept::{Kept, ReadErrors};
use agent_model::lock::lock;
use agent_model::text;
use agent_model::warn_once::WarnOnce;
use agent_pipeline::PipelineState;
use agent_tracer::kernel::counts::{CountsError, OomKills};

use super::agent::{AgentMetrics, Scrape};
use super::catalogue;
use super::container::{Cgroup, Source, sources};
use super::found::Found;
use super::groups::{MetricGroup, MetricGroups};
use super::layers::Layers;
use super::machine::MachineMetrics;
use super::own_process;
use super::sandboxes::Sandboxes;
use super::series::{Bounds, Choice, Seen};
use super::tasks::AllTasks;
use super::text::{Value, Writer};
use super::which::Which;

/// The most descriptors that stay open between scrapes. Each costs the kernel some memory.
const DESCRIPTORS_AT_MOST: usize = 32_768;

static UNREAD: WarnOnce = WarnOnce::new();

/// Makes scrapes, and keeps descriptors and counters from one to the next.
pub struct Scraper {
    kept: Mutex<Kept>,
    agent: AgentMetrics,
    which: Which,
    bounds: Bounds,
    seen: Mutex<Seen>,
    groups: MetricGroups,
    sources: Vec<&'static Source>,
    machine: Mutex<MachineMetrics>,
    filesystems: Mutex<Filesystems>,
    /// `None`: layers are not measured.
    layers: Option<Layers>,
}

/// What a scraper exports.
#[derive(Clone, Copy, Debug)]
pub struct Exported {
    /// The cgroups that have series.
    pub which: Which,
    pub bounds: Bounds,
    pub groups: MetricGroups,
}

/// The values that one scrape has read.
struct Answer {
    started: Instant,
    cgroups: Vec<Cgroup>,
    oom_kills: OomKills,
    /// The text of the machine and of this process.
    own: Writer,
    scrape: Scrape,
}

impl Scraper {
    /// Makes a scraper. `descriptors` is the number that the process may have open; the scraper keeps at most half of
    /// them, and at most 32,768.
    ///
    /// # Errors
    /// The kernel refuses a thread that layers are measured by.
    pub fn new(descriptors: usize, agent: AgentMetrics, exported: Exported) -> io::Result<Self> {
        let root = Path::new("/");
        let Exported {
            which,
            bounds,
            groups,
        } = exported;
        let descriptors = (descriptors / 2).min(DESCRIPTORS_AT_MOST);
        let kept = Kept::new(descriptors, watches_allowed(root));
        let layers = groups.has(MetricGroup::DiskUsage).then(Layers::start);
        Ok(Self {
            kept: Mutex::new(kept.with_each_cpu(groups.has(MetricGroup::PerCpu))),
            agent,
            which,
            bounds,
            seen: Mutex::default(),
            groups,
            sources: sources(groups),
            machine: Mutex::new(MachineMetrics::new(root)),
            filesystems: Mutex::new(Filesystems::new(root)),
            layers: layers.transpose()?,
        })
    }

    /// Reads all values, and returns their text in chunks.
    ///
    /// # Errors
    /// The counters of the BPF programs cannot be read.
    pub fn scrape(
        &self,
        shared: &PipelineState,
    ) -> Result<impl Iterator<Item = String>, CountsError> {
        let answer = self.read(shared)?;
        Ok(self.text(shared, answer))
    }

    fn read(&self, shared: &PipelineState) -> Result<Answer, CountsError> {
        let started = Instant::now();
        let root = Path::new("/");
        let mut errors = ReadErrors::default();
        let sandboxes = match self.groups.has(MetricGroup::Sandbox) {
            true => Sandboxes::find(shared),
            false => Sandboxes::default(),
        };
        let mut tasks = AllTasks::count(shared, self.groups, &sandboxes, &mut errors);
        let (mut found, overflow, oom_kills) = {
            // Both locks are held at the same time. When a cgroup is removed, its counts move from the kernel to the
            // registry. Without both locks, this might count them twice or not at all.
            let registry = lock(&shared.registry);
            let kernel = lock(&shared.counts);
            let (mut counts, overflow) = kernel.all();
            let oom_kills = kernel.oom_kills()?;
            drop(kernel);
            registry.count_subtrees(&mut counts);
            if let Some(tasks) = &mut tasks {
                registry.add_subtrees(&mut tasks.by_cgroup);
            }
            let choice = Choice {
                which: self.which,
                bounds: self.bounds,
                seen: &mut lock(&self.seen),
            };
            let found = Found::of(&registry, &shared.hierarchies, &counts, choice);
            (found, overflow, oom_kills)
        };
        let mut kept = lock(&self.kept);
        let (readings, failed) = kept.read(&shared.hierarchies, &found.directories);
        let kept_sizes = kept.sizes();
        drop(kept);
        errors.add(failed);
        for (cgroup, reading) in found.cgroups.iter_mut().zip(readings) {
            cgroup.reading = reading;
        }
        found.set_tasks(&shared.hierarchies, tasks.as_ref());
        found.set_bounds(&shared.hierarchies);
        let drifting = found.drifting_units();
        if !drifting.is_empty() {
            // systemd may have been told other limits since it was asked.
            lock(&shared.registry).ask_again(&drifting);
        }
        found.add_sandboxes(&sandboxes, tasks.as_ref());
        // This comes after the bounds: the capacity of the host is no limit for the cgroups below the root.
        found.set_capacity(root, &mut errors);
        found.set_devices(root);
        if let Some(layers) = &self.layers {
            found.candidates.set_layers(layers, &mut found.cgroups);
        }
        let filesystems_left_out = self.read_filesystems(&mut found, &mut errors);
        let cgroups = &mut found.cgroups;
        let left_out = found
            .candidates
            .read(root, cgroups, self.groups, &mut errors);
        found.retain_bounded(self.bounds, &mut lock(&self.seen), &self.sources);
        let mut own = Writer::default();
        own_process::write(root, &mut errors, &mut own);
        lock(&self.machine).write(errors.count > 0, &mut own);
        match &errors.first {
            Some(error) => {
                let why = text::error_line(error);
                UNREAD.warn(&format!("files of cgroups cannot be read: {why}"));
            }
            None => UNREAD.clear(),
        }
        let scrape = Scrape {
            duration: started.elapsed(),
            read_errors: errors.count,
            overflow: overflow.total(),
            kept: kept_sizes,
            interfaces_left_out: left_out,
            filesystems_left_out,
            devices_left_out: found.cgroups.iter().map(|it| it.reading.left_out).sum(),
            cgroups_left_out: found.left_out,
            labels_left_out: found.labels_left_out,
        };
        Ok(Answer {
            started,
            cgroups: found.cgroups,
            oom_kills,
            own,
            scrape,
        })
    }

    /// Reads the file systems of the host. Returns how many were left out.
    fn read_filesystems(&self, found: &mut Found, errors: &mut ReadErrors) -> u64 {
        if !self.groups.has(MetricGroup::Disk) && !self.groups.has(MetricGroup::DiskIo) {
            return 0;
        }
        let mut filesystems = lock(&self.filesystems);
        found.set_filesystems(errors.keep(filesystems.read()).unwrap_or_default());
        filesystems.left_out
    }

    /// Writes the text of an answer, chunk by chunk.
    fn text(&self, shared: &PipelineState, answer: Answer) -> impl Iterator<Item = String> {
        let Answer {
            started,
            mut cgroups,
            oom_kills,
            mut own,
            mut scrape,
        } = answer;
        let mut sources = self.sources.iter();
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
            // The next scrape needs this memory only later.
            agent_sys::trim_heap();
            write_oom_kills(&oom_kills, &mut out);
            scrape.duration = started.elapsed();
            let mut chunks = out.take();
            chunks.extend(own.take());
            match self.agent.text(shared, scrape) {
                Ok(text) => chunks.push(text),
                Err(error) => tracing::error!(%error, "the answer to a scrape is cut short"),
            }
            Some(chunks)
        });
        chunks.flatten()
    }
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
