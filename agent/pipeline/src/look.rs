//! One look at the host without tracing it.

use std::path::Path;

use agent_ebpf::Task;
use agent_host::hierarchy::Hierarchies;
use agent_registry::claim::Witnesses;
use agent_registry::registry::Registry;
use agent_tracer::kernel;

use super::{PipelineError, scan};

/// The host at one moment.
#[derive(Debug)]
pub struct HostLook {
    /// Every cgroup, and the container that it belongs to.
    pub registry: Registry,
    /// The host's cgroup hierarchies.
    pub hierarchies: Hierarchies,
    /// Every process's main thread.
    pub tasks: Vec<Task>,
}

/// Finds all cgroups and processes. `witnesses` confirms claims.
///
/// # Errors
/// The kernel refuses, or the host's cgroups cannot be read.
pub fn look(root: &Path, witnesses: &Witnesses) -> Result<HostLook, PipelineError> {
    let hierarchies = Hierarchies::discover(root)?;
    let (host, mut tasks) = kernel::look()?;
    let mut registry = Registry::new(host);
    scan::directories(&hierarchies, |chunk| scan::add(&mut registry, chunk));
    let claims = registry.new_claims(usize::MAX);
    registry.confirm(witnesses.confirm_all(&claims));
    tasks.sort_by_key(|task| task.start_time);
    for task in &tasks {
        registry.set_found(task);
    }
    Ok(HostLook {
        registry,
        hierarchies,
        tasks,
    })
}
