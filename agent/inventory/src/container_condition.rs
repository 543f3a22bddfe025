//! Whether a container runs, and if not, why.

use serde::{Deserialize, Serialize};

/// The state of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerCondition {
    /// The engine has created the container and has never started it.
    Created,
    /// The container has tasks.
    Running,
    /// The container has tasks, and its cgroup is frozen.
    Paused,
    /// The container's cgroup exists and has no tasks.
    Stopped,
    /// The container's cgroup does not exist, and the engine still has the container.
    Exited,
    /// The engine does not have the container any more.
    Removed,
    /// The container's cgroup was removed, and no engine reported whether it still has the container.
    Gone,
    /// A server of another version reports no state, or a state that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl ContainerCondition {
    /// All conditions.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Running,
        Self::Paused,
        Self::Stopped,
        Self::Exited,
        Self::Removed,
        Self::Gone,
        Self::Unknown,
    ];

    /// Returns the name of the condition in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Exited => "exited",
            Self::Removed => "removed",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
        }
    }
}
