//! The traced OOM kills of a run: the victim, the time, and the cgroup whose limit was hit.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_model::clock::Moment;
use agent_model::limit::Kind;
use agent_model::lock::lock;
use agent_stream::client::EventSource;
use agent_stream::stream_event::{EventDetails, StreamEvent};
use tokio::time::{Instant, sleep};

use super::claim::LimitClaim;
use super::report::Victim;

/// How long an event may take to arrive after the kernel has counted the kill.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two checks whether the events have arrived.
const PAUSE: Duration = Duration::from_millis(2);

/// Collects the OOM kills of an event stream.
#[derive(Clone, Debug)]
pub struct Trace(Arc<Mutex<Traced>>);

#[derive(Debug, Default)]
struct Traced {
    /// The path of the cgroup that is judged. Kills in other cgroups are not kept.
    subject: Option<String>,
    victims: Vec<Victim>,
    /// Whether kills may be missing, because the stream reported lost events or ended.
    incomplete: bool,
}

impl Trace {
    /// Tells whether OOM kills matter for the verdicts on these claims.
    pub fn is_of_use(claims: &[LimitClaim]) -> bool {
        claims.iter().any(|claim| claim.kind == Kind::Memory)
    }

    /// Collects the events of `source` from now on. The caller needs a tokio runtime.
    pub fn collect(mut source: EventSource) -> Self {
        let traced = Arc::new(Mutex::new(Traced::default()));
        let trace = Self(Arc::clone(&traced));
        tokio::spawn(async move {
            while let Some(records) = source.events().await {
                let mut traced = lock(&traced);
                records.iter().for_each(|record| traced.add(record));
            }
            lock(&traced).incomplete = true;
        });
        trace
    }

    /// Keeps the kills in the cgroup at `path` and the cgroups below it from now on, and drops all earlier ones.
    pub fn about(&self, path: &str) {
        let mut traced = lock(&self.0);
        traced.subject = Some(path.to_owned());
        traced.victims.clear();
    }

    /// Returns the kills in the run. Waits until as many have arrived as the kernel counted, but at most two seconds.
    /// `None` means that the stream has a gap, so kills may be missing.
    pub async fn kills(&self, counted: u64, run: &Window) -> Option<Vec<Victim>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            {
                let traced = lock(&self.0);
                if traced.incomplete {
                    return None;
                }
                let victims = run.of(&traced.victims, counted);
                if victims.len() as u64 >= counted || Instant::now() >= deadline {
                    return Some(victims);
                }
            }
            sleep(PAUSE).await;
        }
    }
}

/// The times at which the kernel's counters were read, at the begin and the end of a run.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Just before and just after the reading at the begin.
    pub begin: [Moment; 2],
    /// Just before and just after the reading at the end.
    pub end: [Moment; 2],
}

impl Window {
    /// Returns the kills between the two readings. A kill during a reading may be in the count or not. The result
    /// includes only as many of these as the count has beyond the others.
    fn of(&self, victims: &[Victim], counted: u64) -> Vec<Victim> {
        let between = |victim: &Victim| victim.time > self.begin[1] && victim.time < self.end[0];
        let about = |victim: &Victim| {
            !between(victim) && victim.time >= self.begin[0] && victim.time <= self.end[1]
        };
        let mut all: Vec<Victim> = victims.iter().filter(|it| between(it)).cloned().collect();
        let missing = usize::try_from(counted)
            .unwrap_or(usize::MAX)
            .saturating_sub(all.len());
        // Kills during the second reading come first, because they are more likely to be in the count.
        let others = victims.iter().rev().filter(|it| about(it)).take(missing);
        all.extend(others.cloned());
        all.sort_by_key(|victim| victim.time);
        all
    }
}

/// Tells whether a path is that of `cgroup` or of a cgroup below it.
pub(super) fn is_within(path: &str, cgroup: &str) -> bool {
    // The root cgroup, "/", is the empty text before the paths of all others.
    let below = path.strip_prefix(cgroup.trim_end_matches('/'));
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

impl Traced {
    fn add(&mut self, record: &StreamEvent) {
        match &record.details {
            EventDetails::Oom(oom) => {
                let subject = self.subject.as_deref();
                let container = oom.victim.container.as_deref();
                let cgroup = oom.victim_cgroup.as_deref();
                let cgroup = cgroup.or(container.map(|it| &*it.cgroup));
                // The victim's cgroup is not known where the agent never learned of that cgroup. Then the kernel's
                // count and the trace differ, and there is no verdict.
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
            EventDetails::Lost { .. } => self.incomplete = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn moment(second: u64) -> Moment {
        (UNIX_EPOCH + Duration::from_secs(second)).into()
    }

    #[test]
    fn all_paths_are_within_the_root() {
        for (path, cgroup, within) in [
            ("/a", "/", true),
            ("/", "/", true),
            ("/a", "/a", true),
            ("/a/b", "/a", true),
            ("/ab", "/a", false),
            ("/", "/a", false),
        ] {
            assert_eq!(is_within(path, cgroup), within, "{path} {cgroup}");
        }
    }

    #[test]
    fn a_kill_while_a_count_is_read_may_be_counted() {
        let victims = [1, 3, 5, 7, 9, 11].map(|second| Victim {
            time: moment(second),
            pid: second as u32,
            comm: String::new(),
            init: false,
            limit_owner: None,
        });
        let window = Window {
            begin: [moment(2), moment(4)],
            end: [moment(8), moment(10)],
        };
        for (counted, wanted) in [
            (0, &[5, 7][..]),
            (2, &[5, 7]),
            (3, &[5, 7, 9]),
            (4, &[3, 5, 7, 9]),
            (9, &[3, 5, 7, 9]),
        ] {
            let pids: Vec<u32> = window
                .of(&victims, counted)
                .iter()
                .map(|it| it.pid)
                .collect();
            assert_eq!(pids, wanted, "{counted}");
        }
    }
}
