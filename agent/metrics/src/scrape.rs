//! The scrape: reads the current values and writes the text of `/metrics`.

use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;
use std::{iter, mem};

use agent_ebpf::{CgroupKey, Constraint, Task};
use agent_host::changes::watches_allowed;
use agent_host::kept::Kept;
use agent_model::lock::lock;
use agent_model::text;
use agent_tracer::kernel::counts::{CountsError, OomKills};

use super::agent::{AgentMetrics, Scrape};
use super::catalogue;
use super::container::{Cgroup, SOURCES};
use super::found::{Found, Processes};
use super::series::{Bounds, Choice, Seen};
use super::text::{Value, Writer};
use super::which::Which;
use agent_model::warn_once::WarnOnce;
use agent_pipeline::PipelineState;

/// The most descriptors that stay open between scrapes. Each costs the kernel some memory.
const DESCRIPTORS_AT_MOST: usize = 32_768;

static UNREAD: WarnOnce = WarnOnce::new();
static UNCOUNTED: WarnOnce = WarnOnce::new();

/// Makes scrapes, and keeps descriptors and counters from one to the next.
pub struct Scraper {
    kept: Mutex<Kept>,
    agent: AgentMetrics,
    which: Which,
    bounds: Bounds,
    seen: Mutex<Seen>,
}

/// The values that one scrape has read.
struct Answer {
    started: Instant,
    cgroups: Vec<Cgroup>,
    oom_kills: OomKills,
    scrape: Scrape,
}

impl Scraper {
    /// Makes a scraper. `descriptors` is the number that the process may have open; the scraper keeps at most half of
    /// them, and at most 32,768. `which` and `bounds` select the cgroups that have series.
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
        let mut processes = processes(shared);
        let (mut found, overflow, oom_kills) = {
            // Both locks are held at the same time. When a cgroup is removed, its counts move from the kernel to the
            // registry. Without both locks, this might count them twice or not at all.
            let registry = lock(&shared.registry);
            let kernel = lock(&shared.counts);
            let (mut counts, overflow) = kernel.all();
            let oom_kills = kernel.oom_kills()?;
            drop(kernel);
            registry.count_subtrees(&mut counts);
            if let Some(processes) = &mut processes {
                registry.add_subtrees(processes);
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
        let (readings, mut errors) = kept.read(&shared.hierarchies, &found.directories);
        let kept_sizes = kept.sizes();
        drop(kept);
        for (cgroup, reading) in found.cgroups.iter_mut().zip(readings) {
            cgroup.reading = reading;
        }
        found.set_processes(&shared.hierarchies, processes.as_ref());
        found.set_bounds(&shared.hierarchies);
        // This comes after the bounds: the capacity of the host is no limit for the cgroups below the root.
        found.set_capacity(root, &mut errors);
        found.set_devices(root);
        let left_out = found.candidates.read(root, &mut found.cgroups, &mut errors);
        found.retain_bounded(self.bounds, &mut lock(&self.seen));
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
            devices_left_out: found.cgroups.iter().map(|it| it.reading.left_out).sum(),
            cgroups_left_out: found.left_out,
            labels_left_out: found.labels_left_out,
        };
        Ok(Answer {
            started,
            cgroups: found.cgroups,
            oom_kills,
            scrape,
        })
    }

    /// Writes the text of an answer, chunk by chunk.
    fn text(&self, shared: &PipelineState, answer: Answer) -> impl Iterator<Item = String> {
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
            // The next scrape needs this memory only later.
            agent_sys::trim_heap();
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

/// Counts the processes of each cgroup, in each hierarchy that the BPF iterator reports.
fn processes(shared: &PipelineState) -> Option<Processes> {
    let tasks = lock(&shared.kernel).snapshot();
    let tasks = tasks.inspect_err(|error| {
        let why = text::error_line(error);
        UNCOUNTED.warn(&format!("processes cannot be counted: {why}"));
    });
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
