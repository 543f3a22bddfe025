//! What exists on the host now, as values, tables, graphs and JSON: containers with their state and use of resources,
//! namespaces with their processes, and a report on one process.
//!
//! [`containers::ContainerState`], [`namespaces::NamespaceState`] and [`inspect::ProcessReport`] are the values. This
//! crate reads files only through `agent-host` and `agent-engines`.

#![warn(missing_docs, unreachable_pub)]

pub mod container_condition;
pub mod containers;
pub mod dot;
pub mod idle;
pub mod inspect;
mod members;
pub mod namespaces;
pub mod ns;
pub mod ps;
pub mod units;

use agent_model::container::{Container, ContainerKind};
use agent_model::names::is_named;
use serde::{Deserialize, Serialize};

/// The names by which a report on something else refers to a container, unit or sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerName {
    /// The name.
    pub name: String,
    /// The full id that the engine gave a container; else as in [`Container`].
    pub id: String,
    /// The engine's name; empty for a unit or sandbox.
    pub runtime: String,
    /// The kind; absent for a container.
    #[serde(default, skip_serializing_if = "ContainerKind::is_container")]
    pub kind: ContainerKind,
}

impl ContainerName {
    /// Whether `wanted` is the name or id, or the first 12 or more digits of the id.
    pub fn is_meant_by(&self, wanted: &str) -> bool {
        is_named(&self.name, &self.id, wanted)
    }

    /// Whether this is the unit whose cgroup is at `path`, or one in that slice.
    pub fn is_in(&self, path: &str) -> bool {
        let below = self.id.strip_prefix(path);
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }
}

impl From<&Container> for ContainerName {
    fn from(container: &Container) -> Self {
        let Container {
            kind,
            name,
            id,
            runtime,
            ..
        } = container.clone();
        Self {
            name,
            id,
            runtime,
            kind,
        }
    }
}
