//! What the agent exports to Prometheus.

pub mod catalogue;
pub mod container;
pub mod text;
