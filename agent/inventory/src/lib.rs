//! What exists now, as values, tables, graphs and JSON: containers with their state and use, namespaces with their
//! processes, and all about one process.
//!
//! [`containers::ContainerState`], [`namespaces::NamespaceState`] and [`inspect::ProcessReport`] are the values. Files are
//! read through `agent-host` only.

#![warn(missing_docs, unreachable_pub)]

pub mod containers;
pub mod dot;
pub mod idle;
pub mod inspect;
pub mod namespaces;
pub mod ns;
pub mod ps;

use agent_model::container::Container;
use serde::{Deserialize, Serialize};

/// The names of a container, in a report on something else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerName {
    /// The container's name.
    pub name: String,
    /// The engine's full id.
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
