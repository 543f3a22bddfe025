//! One look at the host, without tracing it.

use std::path::Path;

use agent_ebpf::Task;
use agent_host::hierarchy::Hierarchies;
use agent_registry::claim::Witnesses;
use agent_registry::registry::Registry;
use agent_tracer::kernel;

use super::{PipelineError, scan};

/// What there was at one moment.
#[derive(Debug)]
pub struct HostLook {
    pub registry: Registry,
    pub hierarchies: Hierarchies,
    pub tasks: Vec<Task>,
}

/// Finds all cgroups and processes. `witnesses` are asked what confirms a container's claim.
///
/// # Errors
/// Where the kernel refuses, or the host's cgroups cannot be read.
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
