//! The events of the stream: one JSON object a line. These types are the contract; a test generates the JSON schema in
//! `agent/schema/event.json` from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_model::clock::Moment;
use agent_model::container::{Container, ContainerAction, Exit, Namespaces};
use serde::{Deserialize, Serialize};

use super::argv::Argv;
use super::repeated;

/// One event of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StreamEvent {
    /// When the event happened, by the kernel's clock: RFC 3339 in UTC, with nanoseconds.
    #[cfg_attr(test, schemars(with = "String"))]
    pub time: Moment,
    /// The task that caused the event; absent for `lost`.
    #[serde(flatten)]
    pub caller: Option<Caller>,
    /// What happened.
    #[serde(flatten)]
    pub details: EventDetails,
}

/// The task that caused an event, and where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Caller {
    /// The process.
    pub process: EventProcess,
    /// The caller's container; null on the host, and if the container is unknown.
    #[serde(serialize_with = "repeated::container")]
    #[cfg_attr(test, schemars(with = "Option<Arc<Container>>"))]
    pub container: Option<Arc<Container>>,
    /// True if the agent does not know the caller's cgroup.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub container_unknown: bool,
    /// The caller's namespaces after the event.
    #[serde(serialize_with = "repeated::namespaces")]
    #[cfg_attr(test, schemars(with = "Namespaces"))]
    pub namespaces: Namespaces,
}

/// A process, as it was when the event happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EventProcess {
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// The thread id in the host's pid namespace.
    pub tid: u32,
    /// The parent's pid; 0 if the parent is outside of the host's pid namespace.
    pub ppid: u32,
    /// The pid in the process's own pid namespace.
    pub ns_pid: u32,
    /// The thread's name, at most 15 bytes. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub comm: String,
    /// The real user id in the initial user namespace.
    pub uid: u32,
    /// When the process was born: RFC 3339 in UTC, with nanoseconds.
    #[cfg_attr(test, schemars(with = "String"))]
    pub start_time: Moment,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventDetails {
    /// A clone(2) that made a namespace. `namespaces` are the child's.
    Clone {
        /// The namespaces that the call requested and changed.
        #[serde(flatten)]
        call: NamespaceCall,
        /// The new process.
        child: EventSubject,
    },
    /// An unshare(2).
    Unshare {
        /// The namespaces that the call requested and changed.
        #[serde(flatten)]
        call: NamespaceCall,
    },
    /// A setns(2).
    Setns {
        /// The namespaces that the call requested and changed.
        #[serde(flatten)]
        call: NamespaceCall,
        /// Whose namespaces the call entered; absent if it entered none, or if the owner is unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        joined: Option<Joined>,
    },
    /// A kill by the OOM killer. `process` is the one whose allocation triggered it.
    Oom(Box<Oom>),
    /// A process was born. `process` is its parent, which called clone(2).
    Fork {
        /// The new process.
        child: EventSubject,
    },
    /// A process executed a program.
    Exec {
        /// The arguments at the exec, which the process may overwrite later. Bytes that are not UTF-8 are replaced by
        /// U+FFFD.
        #[cfg_attr(test, schemars(with = "Vec<String>"))]
        argv: Argv,
        /// True if the arguments are longer than 1,024 bytes: the last one is cut, and others may be missing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        argv_truncated: bool,
    },
    /// A process ended.
    Exit {
        /// How it ended.
        #[serde(flatten)]
        exit: Exit,
    },
    /// A process of a container is in a namespace of the host that its container does not have.
    Escape {
        /// The type of the namespace.
        namespace: String,
        /// The host's namespace.
        inode: u32,
        /// How it came there: `setns`, `unshare`, or `unseen` if the kernel side found it there at an exec or at its
        /// regular check of all processes.
        how: String,
    },
    /// A container or unit started or stopped.
    Container {
        /// Whether it started or stopped.
        action: ContainerAction,
        /// How the container's init process ended; absent at a start, if the agent did not see it, and for a unit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<Exit>,
        /// The result that systemd reports of a service or scope that stopped: `success`, `exit-code`, `signal`,
        /// `core-dump`, `oom-kill`, `timeout`, `watchdog` or another one of systemd's. Absent if systemd did not report
        /// it within a second.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<String>,
    },
    /// Events that this stream lost.
    Lost {
        /// The number of lost events by kind.
        kinds: BTreeMap<String, u64>,
        /// When the first of them was lost: RFC 3339.
        #[cfg_attr(test, schemars(with = "String"))]
        since: Moment,
    },
}

/// What clone, unshare and setns events have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NamespaceCall {
    /// The namespace types that the caller requested.
    pub requested: Vec<String>,
    /// The namespaces that changed, by their names in `/proc/PID/ns`.
    pub changed: BTreeMap<String, InodeChange>,
    /// "0", or the name of the errno.
    pub result: String,
}

/// A change of one namespace, as inode numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InodeChange {
    /// The namespace before.
    pub from: u32,
    /// The namespace after.
    pub to: u32,
}

/// A process other than the caller, and where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EventSubject {
    /// The process.
    pub process: EventProcess,
    /// Its container; null on the host, and if the container is unknown.
    #[serde(serialize_with = "repeated::container")]
    #[cfg_attr(test, schemars(with = "Option<Arc<Container>>"))]
    pub container: Option<Arc<Container>>,
}

/// The owner of the namespaces that a setns entered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Joined {
    /// A container whose init process is in the namespace.
    Container(Arc<Container>),
    /// "host".
    Host(String),
}

/// A kill by the OOM killer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Oom {
    /// The constraint under which memory ran out: `memcg`, `none` (the host's memory), `cpuset`, `mempolicy`.
    pub constraint: String,
    /// The process that the OOM killer killed.
    pub victim: EventSubject,
    /// The path of the cgroup to which the kernel charged the victim's memory, which may be below the container's; absent
    /// if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub victim_cgroup: Option<String>,
    /// The process whose allocation triggered the kill.
    pub trigger: EventSubject,
    /// The cgroup whose limit was hit; null if no limit was.
    pub limit_owner: Option<LimitOwner>,
    /// The victim's resident memory.
    pub rss: Rss,
    /// Whether the victim is the init process of its container.
    pub init_killed: bool,
}

/// The cgroup whose memory limit was hit, at the time of the kill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LimitOwner {
    /// The cgroup's path.
    pub cgroup: String,
    /// The memory limit; null: no limit.
    pub limit_bytes: Option<u64>,
    /// The memory in use.
    pub usage_bytes: u64,
    /// The limit of swap on v2, of memory and swap together on v1; null: no limit.
    pub swap_limit_bytes: Option<u64>,
    /// The use of swap on v2, of memory and swap together on v1.
    pub swap_usage_bytes: u64,
}

/// The victim's resident memory when it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rss {
    /// Anonymous memory.
    pub anon_bytes: u64,
    /// Mapped files.
    pub file_bytes: u64,
    /// Shared memory (shmem).
    pub shmem_bytes: u64,
}
