//! What the stream says: one JSON object a line. These types are the contract; the JSON schema in
//! `agent/schema/event.json` is generated from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_model::clock::Moment;
use agent_model::container::{Container, ContainerAction, Exit, Namespaces};
use serde::{Deserialize, Serialize};

use super::argv::Argv;
use super::repeated;

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StreamEvent {
    /// When it happened, by the kernel's clock: RFC 3339 in UTC, with nanoseconds.
    #[cfg_attr(test, schemars(with = "String"))]
    pub time: Moment,
    /// Who did it; absent for `lost`, which nobody did.
    #[serde(flatten)]
    pub caller: Option<Caller>,
    #[serde(flatten)]
    pub event: EventDetails,
}

/// The task that made the call, and where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Caller {
    pub process: EventProcess,
    /// The caller's container; null on the host, and where it is unknown.
    #[serde(serialize_with = "repeated::container")]
    #[cfg_attr(test, schemars(with = "Option<Arc<Container>>"))]
    pub container: Option<Arc<Container>>,
    /// True where the caller's cgroup is not known to the agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub container_unknown: bool,
    #[serde(serialize_with = "repeated::namespaces")]
    #[cfg_attr(test, schemars(with = "Namespaces"))]
    pub namespaces: Namespaces,
}

/// A process, as it was when the event happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EventProcess {
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The parent's pid; 0 where it is outside.
    pub ppid: u32,
    /// The pid in the process's own pid namespace.
    pub ns_pid: u32,
    /// The thread's name, at most 15 bytes; what is not UTF-8 is replaced by U+FFFD.
    pub comm: String,
    /// The real user id in the initial user namespace.
    pub uid: u32,
    /// RFC 3339 in UTC, with nanoseconds.
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
        #[serde(flatten)]
        call: NamespaceCall,
        child: EventSubject,
    },
    /// An unshare(2).
    Unshare {
        #[serde(flatten)]
        call: NamespaceCall,
    },
    /// A setns(2).
    Setns {
        #[serde(flatten)]
        call: NamespaceCall,
        /// Whose namespaces were entered; absent where none was, or nobody's is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        joined: Option<Joined>,
    },
    /// A kill by the OOM killer. `process` is the one whose allocation triggered it.
    Oom(Box<Oom>),
    /// A process was born. `process` is the one that called clone(2).
    Fork { child: EventSubject },
    /// A process executed a program.
    Exec {
        /// The arguments; what is not UTF-8 in them is replaced by U+FFFD. A process may change its
        /// own later.
        #[cfg_attr(test, schemars(with = "Vec<String>"))]
        argv: Argv,
        /// True where there was more than 1,024 bytes: the last one is cut, or some are missing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        argv_truncated: bool,
    },
    /// A process ended.
    Exit {
        #[serde(flatten)]
        exit: Exit,
    },
    /// A process of a container is in a namespace of the host that its container does not have.
    Escape {
        /// The type of the namespace.
        namespace: String,
        /// The host's namespace.
        inode: u32,
        /// By what it came there: `setns`, `unshare`, or `unseen` where it was found there when it
        /// executed a program, or when all processes were looked at.
        how: String,
    },
    /// A container started or stopped.
    Container {
        action: ContainerAction,
        /// How the container's first process ended; absent at a start, and where it was not seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<Exit>,
    },
    /// Events that this stream does not have.
    Lost {
        /// How many, by kind.
        kinds: BTreeMap<String, u64>,
        /// When the first of them was lost: RFC 3339.
        #[cfg_attr(test, schemars(with = "String"))]
        since: Moment,
    },
}

/// What clone, unshare and setns have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NamespaceCall {
    /// The namespace types asked for.
    pub requested: Vec<String>,
    /// What changed, by the names in `/proc/PID/ns`.
    pub changed: BTreeMap<String, InodeChange>,
    /// "0", or the name of the errno.
    pub result: String,
}

/// A change of namespace, by inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InodeChange {
    pub from: u32,
    pub to: u32,
}

/// A process and where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EventSubject {
    pub process: EventProcess,
    #[serde(serialize_with = "repeated::container")]
    #[cfg_attr(test, schemars(with = "Option<Arc<Container>>"))]
    pub container: Option<Arc<Container>>,
}

/// Whose namespaces a setns entered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Joined {
    Container(Arc<Container>),
    /// "host".
    Host(String),
}

/// A kill by the OOM killer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Oom {
    /// What was short: `memcg`, `none` (the host's memory), `cpuset`, `mempolicy`.
    pub constraint: String,
    pub victim: EventSubject,
    /// The path of the cgroup that the victim's memory was charged to, which may be below its container's; absent where it
    /// is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub victim_cgroup: Option<String>,
    pub trigger: EventSubject,
    /// The cgroup whose limit was hit; null where none was.
    pub limit_owner: Option<LimitOwner>,
    pub rss: Rss,
    /// Whether the victim is the first process of its container.
    pub init_killed: bool,
}

/// The cgroup whose memory limit was hit, at the time of the kill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LimitOwner {
    pub cgroup: String,
    /// Null: no limit; likewise for swap.
    pub limit_bytes: Option<u64>,
    pub usage_bytes: u64,
    /// Swap on v2; memory and swap together on v1, as the kernel counts.
    pub swap_limit_bytes: Option<u64>,
    pub swap_usage_bytes: u64,
}

/// The victim's resident memory when it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rss {
    pub anon_bytes: u64,
    pub file_bytes: u64,
    pub shmem_bytes: u64,
}
