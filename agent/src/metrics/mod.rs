//! What the agent exports to Prometheus.

pub mod agent;
pub mod catalogue;
pub mod container;
pub mod scrape;
pub mod text;
