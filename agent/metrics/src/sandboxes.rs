//! The sandboxes of a scrape: processes with namespaces of their own and no container's cgroup.

use std::collections::HashMap;
use std::sync::Arc;

use agent_ebpf::Task;
use agent_model::container::{Container, ContainerKind};
use agent_model::lock::lock;
use agent_model::text;
use agent_model::warn_once::WarnOnce;
use agent_pipeline::PipelineState;
use agent_registry::location::TaskLocation;
use agent_registry::registry::Registry;

/// One sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pub container: Arc<Container>,
    /// The process that started first.
    pub eldest: Task,
}

/// All sandboxes, in the order of their oldest processes.
#[derive(Clone, Debug, Default)]
pub struct Sandboxes {
    pub all: Vec<Sandbox>,
    /// The index of the sandbox that a process is in, by its pid.
    pub of: HashMap<u32, usize>,
}

impl Sandboxes {
    /// Lists all processes, and finds those that are in sandboxes. Finds none where the kernel refuses the list.
    pub fn find(shared: &PipelineState) -> Self {
        static UNLISTED: WarnOnce = WarnOnce::new();
        match lock(&shared.kernel).snapshot() {
            Ok(tasks) => {
                UNLISTED.clear();
                Self::of(&lock(&shared.registry), tasks)
            }
            Err(error) => {
                let why = text::error_line(&error);
                UNLISTED.warn(&format!("sandboxes cannot be listed: {why}"));
                Self::default()
            }
        }
    }

    fn of(registry: &Registry, mut tasks: Vec<Task>) -> Self {
        tasks.sort_by_key(|task| (task.start_time, task.pid));
        let mut found = Self::default();
        let mut by_id: HashMap<String, usize> = HashMap::new();
        for task in tasks {
            let TaskLocation::In(container) = registry.locate(&task) else {
                continue;
            };
            if container.kind != ContainerKind::Sandbox {
                continue;
            }
            let at = *by_id.entry(container.id.clone()).or_insert(found.all.len());
            found.of.insert(task.pid, at);
            if at == found.all.len() {
                let eldest = task;
                found.all.push(Sandbox { container, eldest });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use agent_ebpf::{NAMESPACES, Namespace};

    use super::*;

    #[test]
    fn processes_by_sandbox() {
        let registry = Registry::new([1; NAMESPACES]);
        let task = |pid, outer_pid_namespace, mnt| {
            let mut task = Task {
                pid,
                tid: pid,
                start_time: 100 - u64::from(pid),
                outer_pid_namespace,
                namespaces: [1; NAMESPACES],
                ..Task::EMPTY
            };
            task.namespaces[Namespace::Mnt as usize] = mnt;
            task
        };
        let tasks = vec![
            task(10, 7, 8),
            task(11, 7, 9),
            task(12, 0, 1),
            task(13, 0, 5),
        ];
        let found = Sandboxes::of(&registry, tasks);
        let all: Vec<_> = found
            .all
            .iter()
            .map(|it| (&*it.container.name, it.eldest.pid))
            .collect();
        assert_eq!(all, [("sandbox-5", 13), ("sandbox-7", 11)]);
        let of = [10, 11, 12, 13].map(|pid| found.of.get(&pid).copied());
        assert_eq!(of, [Some(1), Some(1), None, Some(0)]);
    }
}
