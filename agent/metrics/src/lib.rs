//! The metrics that the agent exports to Prometheus, and the scrape that reads their values.

pub mod agent;
pub mod catalogue;
pub mod container;
mod found;
mod namespaces;
pub mod scrape;
pub mod series;
pub mod text;
pub mod traffic;
pub mod which;
