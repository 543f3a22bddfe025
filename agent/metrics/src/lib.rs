//! The metrics that the agent exports to Prometheus, and the scrape that reads their values.

pub mod agent;
pub mod catalogue;
pub mod container;
mod found;
pub mod groups;
mod layers;
mod machine;
mod namespaces;
mod own_process;
mod sandboxes;
pub mod scrape;
pub mod series;
mod tasks;
pub mod text;
pub mod traffic;
pub mod which;
