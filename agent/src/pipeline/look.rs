//! One look at the host, without tracing it.

use std::path::Path;

use agent_ebpf::Task;

use super::{PipelineError, scan};
use crate::{
    container::registry::{Registry, names::Own},
    host::hierarchy::Hierarchies,
    kernel,
};

/// What there was at one moment.
#[derive(Debug)]
pub struct Look {
    pub registry: Registry,
    pub hierarchies: Hierarchies,
    pub tasks: Vec<Task>,
}

/// Finds all cgroups and processes. `own` speaks for containers of `agent run`.
///
/// # Errors
/// Where the kernel refuses, or the host's cgroups cannot be read.
pub fn look(root: &Path, own: Own) -> Result<Look, PipelineError> {
    let hierarchies = Hierarchies::discover(root)?;
    let (host, mut tasks) = kernel::look()?;
    let mut registry = Registry::asking(host, own);
    scan::directories(&hierarchies, &mut registry);
    tasks.sort_by_key(|task| task.start_time);
    for task in &tasks {
        registry.set_found(task);
    }
    Ok(Look {
        registry,
        hierarchies,
        tasks,
    })
}
