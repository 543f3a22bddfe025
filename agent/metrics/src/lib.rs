//! What the agent exports to Prometheus.

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
