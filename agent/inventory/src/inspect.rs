//! All about one process, and what makes a container of it or does not: the JSON of `agent inspect`.

mod gaps;
mod human;
mod limit;
mod mounts;
mod read;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::Path;

use agent_host::Error;
use agent_host::process::IdRange;
use agent_model::container::Container;
use agent_model::text::error_line;
pub use gaps::Gap;
pub use human::page;
pub use limit::{Holds, LimitReport};
pub use mounts::{ChangedRoot, ProcessRoot, Propagates, ReachableMount, ReachableMounts};
pub use read::{container_of, read};
use serde::Serialize;

use super::ContainerName;

/// What is known of a process, each with the file that it was read from.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessReport {
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// Null where it is in none.
    pub container: Option<Container>,
    /// The main thread's name.
    pub comm: Fact<String>,
    /// The path of the executable.
    pub executable: Fact<String>,
    /// Empty where the kernel's list of tasks does not have it, as a thread, or what is closed to this process.
    pub namespaces: Vec<Namespace>,
    /// Namespaces that other threads of it are in, and its main thread is not.
    pub threads: Vec<ThreadNamespace>,
    /// The root of the process.
    pub root: Fact<ProcessRoot>,
    /// The mounts that the process can reach.
    pub mounts: Fact<ReachableMounts>,
    /// The user ids of its user namespace (user_namespaces(7)).
    pub uid_map: Fact<Vec<IdRange>>,
    /// The group ids of its user namespace (user_namespaces(7)).
    pub gid_map: Fact<Vec<IdRange>>,
    /// By the names of the sets.
    pub capabilities: BTreeMap<&'static str, Fact<Vec<String>>>,
    /// Whether an exec can gain no privileges (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: Fact<bool>,
    /// The seccomp mode.
    pub seccomp: Fact<&'static str>,
    /// The number of seccomp filters.
    pub seccomp_filters: Fact<u32>,
    /// Its cgroups, one in each hierarchy.
    pub cgroups: Fact<Vec<ProcessCgroup>>,
    /// The limits that apply to it.
    pub limits: Vec<LimitReport>,
    /// `PROPERTY=VALUE` of the limits that its systemd unit sets and that the agent does not judge.
    pub not_judged: Vec<String>,
    /// What the process shares with the host.
    pub not_isolated: Vec<Gap>,
}

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact<T> {
    /// Null where it cannot be read.
    pub value: Option<T>,
    /// The file, and which row of it.
    pub source: String,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// A namespace that a process is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Namespace {
    /// The entry of `/proc/PID/ns`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The inode number.
    pub inode: u32,
    /// Whether it is the host's own.
    pub host: bool,
    /// How many are in it.
    pub processes: u32,
    /// Other containers than the process's own that have processes in it.
    pub shared_with: Vec<ContainerName>,
    /// The file that says so.
    pub source: String,
}

/// A namespace that a thread is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadNamespace {
    /// The thread id in the host's pid namespace.
    pub tid: u32,
    /// The entry of `/proc/PID/task/TID/ns`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The inode number.
    pub inode: u32,
    /// The file that says so.
    pub source: String,
}

/// Where a process is in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessCgroup {
    /// The controllers of v1, or its `name=NAME`; `v2`.
    pub hierarchy: String,
    /// The cgroup's path.
    pub path: String,
}

impl<T> Fact<T> {
    fn of(source: String, read: Result<T, impl Borrow<Error>>) -> Self {
        let (value, unreadable) = match read {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(reason(error.borrow()))),
        };
        Self {
            value,
            source,
            unreadable,
        }
    }
}

/// Why a file could not be read. The report names the file beside it.
fn reason(error: &Error) -> String {
    match error {
        Error::Io { source, .. } => error_line(source),
        other => error_line(other),
    }
}

fn source(path: &Path) -> String {
    path.display().to_string()
}
