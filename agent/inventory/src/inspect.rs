//! The report of `agent inspect` on one process: what it is isolated from, and what it shares with the host.

mod gaps;
mod human;
mod limit;
mod mounts;
mod read;
mod usage;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::Path;

use agent_host::Error;
use agent_host::inside::AddressedInterface;
use agent_host::process::IdRange;
use agent_model::clock::Moment;
use agent_model::container::Container;
use agent_model::text::error_line;
pub use gaps::Gap;
pub use human::page;
pub use limit::{Holds, LimitReport};
pub use mounts::{ChangedRoot, ProcessRoot, Propagates, ReachableMount, ReachableMounts};
pub use read::{container_of, read};
use serde::Serialize;
pub use usage::Usage;

use super::ContainerName;

/// The facts about a process, each with the file that it was read from. This is the JSON of `agent inspect`.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessReport {
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// The container, or without one the unit or sandbox, that the process is in; null where it is in none.
    pub container: Option<Container>,
    /// The main thread's name.
    pub comm: Fact<String>,
    /// The path of the executable.
    pub executable: Fact<String>,
    /// The command line.
    pub command: Fact<Vec<String>>,
    /// The time when the process started, in RFC 3339.
    pub started: Fact<Moment>,
    /// The host name in its uts namespace.
    pub hostname: Fact<String>,
    /// The interfaces of its network namespace, at most 64.
    pub interfaces: Fact<Vec<AddressedInterface>>,
    /// The resources that its container uses, or without one its cgroup. Null where its cgroups cannot be read.
    pub usage: Option<Usage>,
    /// The namespaces of the process. Empty where the kernel's list of tasks does not have the pid, as that of a
    /// thread.
    pub namespaces: Vec<Namespace>,
    /// The namespaces that only other threads than the main thread are in.
    pub threads: Vec<ThreadNamespace>,
    /// The root directory of the process.
    pub root: Fact<ProcessRoot>,
    /// The mounts that the process can reach.
    pub mounts: Fact<ReachableMounts>,
    /// The user ids of its user namespace (user_namespaces(7)).
    pub uid_map: Fact<Vec<IdRange>>,
    /// The group ids of its user namespace (user_namespaces(7)).
    pub gid_map: Fact<Vec<IdRange>>,
    /// The capabilities in each set, by the name of the set (capabilities(7)).
    pub capabilities: BTreeMap<&'static str, Fact<Vec<String>>>,
    /// Whether execve(2) can grant no privileges (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: Fact<bool>,
    /// The seccomp mode (seccomp(2)).
    pub seccomp: Fact<&'static str>,
    /// The number of seccomp filters.
    pub seccomp_filters: Fact<u32>,
    /// The cgroups of the process, one in each hierarchy.
    pub cgroups: Fact<Vec<ProcessCgroup>>,
    /// The limits that bind the process.
    pub limits: Vec<LimitReport>,
    /// The limits that the systemd unit of the process sets and that the agent does not judge, as `PROPERTY=VALUE`.
    pub not_judged: Vec<String>,
    /// What the process shares with the host or with other containers, or may do to the host.
    pub not_isolated: Vec<Gap>,
}

/// A value that was read from a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact<T> {
    /// The value; null where it cannot be read.
    pub value: Option<T>,
    /// The path of the file, with the row where the file has several.
    pub source: String,
    /// Why the value cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// A namespace that a process is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Namespace {
    /// The type, as the name of the entry in `/proc/PID/ns`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The inode number.
    pub inode: u32,
    /// The name that `ip netns` or docker gives a network namespace; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is the host's namespace.
    pub host: bool,
    /// The number of processes in the namespace.
    pub processes: u32,
    /// The other containers that have processes in the namespace.
    pub shared_with: Vec<ContainerName>,
    /// The file that the inode number was read from, or the kernel's list of tasks where this process may not read it.
    pub source: String,
}

/// A namespace that a thread is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadNamespace {
    /// The thread id in the host's pid namespace.
    pub tid: u32,
    /// The type, as the name of the entry in `/proc/PID/task/TID/ns`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The inode number.
    pub inode: u32,
    /// The file that the inode number was read from.
    pub source: String,
}

/// The cgroup of a process in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessCgroup {
    /// `v2`; for v1 the controllers of the hierarchy, separated by commas, or `name=NAME`.
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

/// Returns why a file could not be read, without the file's path, which the report has in the same fact.
fn reason(error: &Error) -> String {
    match error {
        Error::Io { source, .. } => error_line(source),
        other => error_line(other),
    }
}

fn source(path: &Path) -> String {
    path.display().to_string()
}
