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
pub mod namespaces;
pub mod ns;
pub mod ps;

use agent_model::container::Container;
use serde::{Deserialize, Serialize};

/// The names by which a report on something else refers to a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerName {
    /// The container's name.
    pub name: String,
    /// The full id that the engine gave it.
    pub id: String,
    /// The engine's name.
    pub runtime: String,
}

impl From<&Container> for ContainerName {
    fn from(container: &Container) -> Self {
        let Container {
            name, id, runtime, ..
        } = container.clone();
        Self { name, id, runtime }
    }
}
