//! One look at the host without tracing it.

use std::path::Path;

use agent_ebpf::{NamespaceInodes, Task};
use agent_host::hierarchy::Hierarchies;
use agent_host::visible_tasks;
use agent_registry::claim::Witnesses;
use agent_registry::registry::Registry;
use agent_tracer::kernel;
use agent_tracer::kernel::KernelError;

use super::{PipelineError, scan};

/// The host at one moment.
#[derive(Debug)]
pub struct HostLook {
    /// Every cgroup, and the container that it belongs to.
    pub registry: Registry,
    /// The host's cgroup hierarchies.
    pub hierarchies: Hierarchies,
    /// Every process's main thread, or those that were visible.
    pub tasks: Vec<Task>,
}

/// Finds all cgroups and processes. `witnesses` confirms claims.
///
/// # Errors
/// The kernel refuses, or the host's cgroups cannot be read.
pub fn look(root: &Path, witnesses: &Witnesses) -> Result<HostLook, PipelineError> {
    let hierarchies = Hierarchies::discover(root)?;
    let (host, tasks) = kernel::look()?;
    Ok(HostLook::new(hierarchies, host, tasks, witnesses))
}

/// Finds all cgroups, and the processes whose namespaces an ordinary user may see.
///
/// # Errors
/// The host's cgroups cannot be read, or this process does not see the host's process 1.
pub fn look_as_user(root: &Path, witnesses: &Witnesses) -> Result<HostLook, PipelineError> {
    let hierarchies = Hierarchies::discover(root)?;
    let tasks = visible_tasks::visible(root, &hierarchies);
    let host = visible_tasks::host_of(root, &tasks).ok_or(KernelError::PidNamespace)?;
    Ok(HostLook::new(hierarchies, host, tasks, witnesses))
}

impl HostLook {
    fn new(
        hierarchies: Hierarchies,
        host: NamespaceInodes,
        mut tasks: Vec<Task>,
        witnesses: &Witnesses,
    ) -> Self {
        let mut registry = Registry::new(host);
        scan::directories(&hierarchies, |chunk| scan::add(&mut registry, chunk));
        let claims = registry.new_claims(usize::MAX);
        registry.confirm(witnesses.confirm_all(&claims));
        tasks.sort_by_key(|task| task.start_time);
        for task in &tasks {
            registry.set_found(task);
        }
        Self {
            registry,
            hierarchies,
            tasks,
        }
    }
}
