//! The OOM kills that were traced while a container ran: who, when, and by whose limit.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::report::Victim;
use crate::lock::lock;
use crate::watch::record::{Event, Record};
use crate::watch::source::Source;

/// How long a kill that the kernel has counted may take to be told of.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks whether it was.
const PAUSE: Duration = Duration::from_millis(2);

/// Events, as they come.
#[derive(Clone, Debug)]
pub struct Trace(Arc<Mutex<Traced>>);

#[derive(Debug, Default)]
struct Traced {
    /// The path of the cgroup that is judged. Kills elsewhere are nobody's business here, and are not kept.
    subject: Option<String>,
    victims: Vec<Victim>,
    /// The stream told of a gap, or ended: not all are here.
    incomplete: bool,
}

impl Trace {
    /// Collects what comes from now on. Needs a tokio runtime.
    pub fn collect(mut source: Source) -> Self {
        let traced = Arc::new(Mutex::new(Traced::default()));
        let trace = Self(Arc::clone(&traced));
        tokio::spawn(async move {
            while let Some(records) = source.records().await {
                let mut traced = lock(&traced);
                records.iter().for_each(|record| traced.add(record));
            }
            lock(&traced).incomplete = true;
        });
        trace
    }

    /// From now on kills in the cgroup at `path`, and in those below it, are kept; what was before is forgotten.
    pub fn about(&self, path: &str) {
        let mut traced = lock(&self.0);
        traced.subject = Some(path.to_owned());
        traced.victims.clear();
    }

    /// The kills, once all that the kernel has counted were told of, or that took too long. `None` where the stream has a
    /// gap: then there may be more.
    pub async fn kills(&self, counted: u64) -> Option<Vec<Victim>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            {
                let traced = lock(&self.0);
                if traced.incomplete {
                    return None;
                }
                if traced.victims.len() as u64 >= counted || Instant::now() >= deadline {
                    return Some(traced.victims.clone());
                }
            }
            sleep(PAUSE).await;
        }
    }
}

/// Whether a path is that of `cgroup`, or of one below it.
pub(super) fn is_within(path: &str, cgroup: &str) -> bool {
    let below = path.strip_prefix(cgroup);
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

impl Traced {
    fn add(&mut self, record: &Record) {
        match &record.event {
            Event::Oom(oom) => {
                let subject = self.subject.as_deref();
                let container = oom.victim.container.as_deref();
                let cgroup = oom.victim_cgroup.as_deref();
                let cgroup = cgroup.or(container.map(|it| &*it.cgroup));
                // Which cgroup it was in is not known where the agent never learned of that: then the kernel's count and
                // the trace do not agree, and there is no verdict.
                if !cgroup
                    .zip(subject)
                    .is_some_and(|(path, subject)| is_within(path, subject))
                {
                    return;
                }
                let process = &oom.victim.process;
                self.victims.push(Victim {
                    time: record.time,
                    pid: process.pid,
                    comm: process.comm.clone(),
                    init: oom.init_killed,
                    limit_owner: oom.limit_owner.as_ref().map(|owner| owner.cgroup.clone()),
                });
            }
            Event::Lost { .. } => self.incomplete = true,
            _ => {}
        }
    }
}
