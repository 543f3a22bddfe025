//! What there is now, as values and for the eye: containers with their state and use, namespaces
//! with who is in them.

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

/// A container, where another thing is told of.
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
