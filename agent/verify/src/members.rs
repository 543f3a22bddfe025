//! Watches the members of a cgroup. A process that is moved out of it is not bound by the limit there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use agent_host::membership::Membership;
use agent_host::process::Process;
use agent_model::limit::Kind;

use super::sample::Gauge;
use super::trace::is_within;

/// The processes of one look, each with when it started: a pid may be another process's at the next.
#[derive(Debug, Default)]
pub(crate) struct Members(BTreeMap<i32, u64>);

/// A process that is elsewhere now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    pub pid: i32,
    /// The path of the cgroup that it is in.
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
    /// Looks again: one that was moved out since the last time, and where to, in the hierarchy that limits `kind`.
    pub(crate) fn look(&mut self, gauge: &Gauge, kind: Kind) -> Option<Moved> {
        let mut before = std::mem::take(&mut self.0);
        for pid in gauge.processes(kind) {
            // One that has just ended is nobody.
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

/// The cgroup of a process that is neither in the gauge's nor below.
fn elsewhere(gauge: &Gauge, kind: Kind, pid: i32) -> Option<String> {
    let membership = Membership::of(Path::new("/"), pid.try_into().ok()?).ok()?;
    let path = gauge.path_of(&membership, kind)?;
    // v1 shows who ends in the root already: so this is looked at after that.
    let ends = process(pid)?.is_ending().unwrap_or(true);
    (!ends && !is_within(path, gauge.path(kind)?)).then(|| path.to_owned())
}
