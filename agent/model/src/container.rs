//! Containers, and the other cgroups that a task can be in.

use agent_ebpf::Namespace;
use serde::{Deserialize, Serialize};

use super::labels::{ContainerLabels, PodName};

/// The kind of a [`Container`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ContainerKind {
    /// A cgroup that an engine made for a container.
    #[default]
    Container,
    /// A systemd service, scope or slice.
    Unit,
    /// Tasks with namespaces of their own and no container's cgroup.
    Sandbox,
    /// Any other cgroup.
    Cgroup,
}

impl ContainerKind {
    /// The name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Unit => "unit",
            Self::Sandbox => "sandbox",
            Self::Cgroup => "cgroup",
        }
    }

    /// Whether it is a container.
    pub fn is_container(&self) -> bool {
        *self == Self::Container
    }
}

/// A container, unit, sandbox or cgroup that a task is attributed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Container {
    /// The kind.
    pub kind: ContainerKind,
    /// The engine's full id of a container that is confirmed, the namespace of a sandbox
    /// (`pid:[4026532201]`), else the cgroup's path.
    pub id: String,
    /// The name that the engine has for a confirmed container, or the first 12 characters of its id until
    /// the name is known. A container that is not confirmed has its cgroup's path instead. A unit has the name
    /// that systemd gives it, and a sandbox `sandbox-` and the inode of its namespace.
    pub name: String,
    /// The engine of a container: the one that the cgroup's path claims if the container is not confirmed.
    /// Empty for all other kinds.
    pub runtime: String,
    /// The image of a container; `unknown` if it is not known. Empty for all other kinds.
    pub image: String,
    /// Whether the cgroup is confirmed as the container's: by the state of `agent run`, by the engine, or by
    /// what the engine's launcher left in `/run`. False if only the cgroup's path claims it. Absent for all
    /// other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// The cgroup's path below the root of its hierarchy.
    pub cgroup: String,
    /// The names that Kubernetes gives the container; absent if it is in no pod, or if nobody reports its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// The container's labels that `--label` allows; absent if there are none.
    #[serde(default, skip_serializing_if = "ContainerLabels::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "std::collections::BTreeMap<String, String>")
    )]
    pub labels: ContainerLabels,
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

/// Whether a container started or stopped.
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
