//! Watches the processes of a cgroup. The cgroup's limit does not bind a process that was moved out of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use agent_host::membership::Membership;
use agent_host::process::Process;
use agent_model::limit::Kind;

use super::sample::Gauge;
use super::trace::is_within;

/// The processes that one look found, each with its start time. At the next look, another process may have the same
/// pid.
#[derive(Debug, Default)]
pub(crate) struct Members(BTreeMap<i32, u64>);

/// A process that was moved to another cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    pub pid: i32,
    /// The path of the cgroup that the process is in now.
    pub to: String,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, to } = self;
        write!(
            f,
            "process {pid} was moved to the cgroup {to} during the run, where this limit does not bind it"
        )
    }
}

impl Members {
    /// Looks again, and returns a process that was moved out of the cgroup since the last look, in the hierarchy that
    /// limits `kind`.
    pub(crate) fn look(&mut self, gauge: &Gauge, kind: Kind) -> Option<Moved> {
        let mut before = std::mem::take(&mut self.0);
        for pid in gauge.processes(kind) {
            // A process that has just ended has no start time, and is left out.
            let started = before.remove(&pid).or_else(|| started(pid));
            self.0.extend(started.map(|started| (pid, started)));
        }
        before.into_iter().find_map(|(pid, was_started)| {
            let to = elsewhere(gauge, kind, pid)?;
            (started(pid) == Some(was_started)).then_some(Moved { pid, to })
        })
    }
}

fn process(pid: i32) -> Option<Process> {
    Some(Process::new(Path::new("/"), pid.try_into().ok()?))
}

fn started(pid: i32) -> Option<u64> {
    process(pid)?.started().ok()
}

/// Returns the cgroup of a process that is neither in the gauge's cgroup nor below it.
fn elsewhere(gauge: &Gauge, kind: Kind, pid: i32) -> Option<String> {
    let membership = Membership::of(Path::new("/"), pid.try_into().ok()?).ok()?;
    let path = gauge.path_of(&membership, kind)?;
    // v1 shows an ending process in the root cgroup. So this is read after the cgroup: a process that ends in between
    // counts as ending.
    let ends = process(pid)?.is_ending().unwrap_or(true);
    (!ends && !is_within(path, gauge.path(kind)?)).then(|| path.to_owned())
}
