//! Containers, and the other cgroups that a task can be in.

use agent_ebpf::Namespace;
use serde::{Deserialize, Serialize};

/// What the kind of a [`Container`] can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ContainerKind {
    /// A cgroup that an engine made for a container.
    Container,
    /// A systemd service, scope or slice.
    Unit,
    /// Tasks with namespaces of their own and no container's cgroup.
    Sandbox,
    /// Any other cgroup.
    Cgroup,
}

/// A container, unit, sandbox or cgroup that a task is attributed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Container {
    /// What it is.
    pub kind: ContainerKind,
    /// The engine's full id of a container that is confirmed, the namespace of a sandbox
    /// (`pid:[4026532201]`), else the cgroup's path.
    pub id: String,
    /// The engine's name; until it is known the id's first 12 characters. A container that is not
    /// confirmed has none, and goes by its cgroup's path.
    pub name: String,
    /// The engine, where it is not confirmed the one that the path claims; empty for all but
    /// containers.
    pub runtime: String,
    /// The image of a container, `unknown` where it is not known; empty for all others.
    pub image: String,
    /// Whether the state of `agent run`, the engine or what its launcher left in `/run` says that
    /// this cgroup is the container's. False: the path alone claims it. Absent for all but containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// The cgroup's path below the root of its hierarchy.
    pub cgroup: String,
}

/// Inode numbers of the entries of `/proc/PID/ns`; 0 where the kernel has none.
#[expect(
    missing_docs,
    reason = "each field is named as its entry of /proc/PID/ns"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Namespaces {
    pub cgroup: u32,
    pub ipc: u32,
    pub mnt: u32,
    pub net: u32,
    pub pid: u32,
    pub pid_for_children: u32,
    pub time: u32,
    pub time_for_children: u32,
    pub user: u32,
    pub uts: u32,
}

impl From<&agent_ebpf::NamespaceInodes> for Namespaces {
    fn from(inodes: &agent_ebpf::NamespaceInodes) -> Self {
        let at = |namespace: Namespace| inodes[namespace as usize];
        Self {
            cgroup: at(Namespace::Cgroup),
            ipc: at(Namespace::Ipc),
            mnt: at(Namespace::Mnt),
            net: at(Namespace::Net),
            pid: at(Namespace::Pid),
            pid_for_children: at(Namespace::PidForChildren),
            time: at(Namespace::Time),
            time_for_children: at(Namespace::TimeForChildren),
            user: at(Namespace::User),
            uts: at(Namespace::Uts),
        }
    }
}

/// What became of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ContainerAction {
    /// It started.
    Start,
    /// It stopped.
    Stop,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Exit {
    /// The exit code; 0 where a signal ended it.
    pub code: u8,
    /// The signal that ended it, or 0.
    pub signal: u8,
    /// Whether the OOM killer killed the process.
    pub oom_killed: bool,
    /// The lifetime of the process in milliseconds.
    pub duration_ms: u64,
}
