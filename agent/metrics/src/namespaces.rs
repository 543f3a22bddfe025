//! Attributes network interfaces to containers. Those of a network namespace belong to the container whose init process
//! is the oldest there. Other containers in that namespace, and those in the host's, have no interfaces.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Once;

use agent_ebpf::{Namespace, NamespaceInodes, Task};
use agent_host::connections::Protocols;
use agent_host::kept::ReadErrors;
use agent_host::process::Process;
use agent_host::{Error, connections, network, open_files};
use agent_registry::registry;

use super::container::Cgroup;
use super::groups::{MetricGroup, MetricGroups};
use super::layers::{Init, Layers};

/// The network namespaces of a scrape, each with its owner.
#[derive(Debug, Default)]
pub struct Candidates {
    /// The inode of the host's network namespace.
    host: u32,
    /// The owner of each network namespace, by the namespace's inode.
    owners: HashMap<u32, Candidate>,
    /// The init process of each container.
    inits: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    index: usize,
    pid: u32,
    start_time: u64,
    /// Whether the container is root's. A user's container may name any directory as its layer.
    is_roots: bool,
}

/// The index of the root cgroup among the cgroups of a scrape.
pub(super) const HOST: usize = 0;

impl Candidates {
    /// Sets the namespaces of the host.
    pub fn set_host(&mut self, host: &NamespaceInodes) {
        self.host = host[Namespace::Net as usize];
    }

    /// Adds the cgroup with this index, if it is an existing container with a known init process.
    pub fn add(&mut self, index: usize, cgroup: &registry::Cgroup) {
        let init = cgroup.life.init().filter(|_| cgroup.is_container());
        if let Some(task) = init.filter(|_| cgroup.gone.is_none()) {
            self.add_first(index, task, cgroup.is_confirmed() && cgroup.user() == 0);
        }
    }

    /// Adds a container or sandbox whose first process is known.
    pub(super) fn add_first(&mut self, index: usize, first: &Task, is_roots: bool) {
        let inode = first.namespaces[Namespace::Net as usize];
        let candidate = Candidate {
            index,
            pid: first.pid,
            start_time: first.start_time,
            is_roots,
        };
        self.inits.push(candidate);
        if inode == self.host {
            return;
        }
        let owner = self.owners.entry(inode).or_insert(candidate);
        if candidate.start_time < owner.start_time {
            *owner = candidate;
        }
    }

    /// Reads the interfaces of each namespace once, and those of the host. Also counts the connections there, and reads
    /// limits of open descriptors, as `groups` asks. Returns how many interfaces were left out.
    pub fn read(
        &self,
        root: &Path,
        cgroups: &mut [Cgroup],
        groups: MetricGroups,
        errors: &mut ReadErrors,
    ) -> u64 {
        let mut left_out = 0;
        let protocols = Protocols {
            tcp: groups.has(MetricGroup::Tcp),
            udp: groups.has(MetricGroup::Udp),
        };
        let owners = self.owners.values();
        let owners = owners.map(|it| (it.index, it.pid, Some(it.start_time)));
        for (index, pid, start_time) in owners.chain([(HOST, 1, None)]) {
            let Some(cgroup) = cgroups.get_mut(index) else {
                continue;
            };
            if groups.has(MetricGroup::Network) {
                let read = match start_time {
                    Some(start_time) => network::of_process(root, pid, start_time),
                    None => network::of_host(root),
                };
                if matches!(read, Err(Error::Gone { .. })) && Process::new(root, pid).is_hidden() {
                    say_hidden(pid);
                }
                if let Some(network) = errors.keep(read) {
                    cgroup.interfaces = network.interfaces;
                    left_out += network.left_out as u64;
                }
            }
            if protocols != Protocols::default() {
                let read = connections::of_process(root, pid, start_time, protocols);
                cgroup.on_request.connections = errors.keep(read).unwrap_or_default();
            }
        }
        if groups.has(MetricGroup::Process) {
            self.read_limits(root, cgroups, errors);
        }
        left_out
    }

    /// Sets the writable layers of root's containers that were measured.
    pub fn set_layers(&self, layers: &Layers, cgroups: &mut [Cgroup]) {
        let of = |candidate: &Candidate| Init {
            pid: candidate.pid,
            start_time: candidate.start_time,
        };
        let inits = self.inits.iter().filter(|it| it.is_roots);
        let wanted: Vec<Init> = inits.clone().map(of).collect();
        let mut measured = layers.take(&wanted);
        for init in inits {
            if let (Some(layer), Some(cgroup)) =
                (measured.remove(&of(init)), cgroups.get_mut(init.index))
            {
                cgroup.filesystems = vec![layer];
            }
        }
    }

    fn read_limits(&self, root: &Path, cgroups: &mut [Cgroup], errors: &mut ReadErrors) {
        for init in &self.inits {
            let limit = open_files::limit(root, init.pid, init.start_time);
            if let Some(cgroup) = cgroups.get_mut(init.index) {
                cgroup.on_request.descriptors = errors.keep(limit);
            }
        }
    }
}

/// Warns once that /proc hides processes.
fn say_hidden(pid: u32) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            "/proc hides process {pid} from this one: its container has no container_network_*, and neither have others like it; \
             give agent serve CAP_SYS_PTRACE, or a /proc without hidepid= (ProtectProc=default of its unit)"
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(pid: u32, start_time: u64, net: u32) -> Task {
        let mut task = Task {
            pid,
            start_time,
            ..Task::EMPTY
        };
        task.namespaces[Namespace::Net as usize] = net;
        task
    }

    #[test]
    fn a_namespace_is_of_the_first_that_was_there() {
        let mut candidates = Candidates {
            host: 1,
            ..Candidates::default()
        };
        for (index, task) in [
            (1, first(10, 500, 7)),
            (2, first(11, 400, 7)),
            (3, first(12, 600, 7)),
            (4, first(13, 300, 1)),
            (5, first(14, 700, 8)),
        ] {
            candidates.add_first(index, &task, true);
        }
        let mut owners: Vec<_> = candidates.owners.values().map(|it| it.index).collect();
        owners.sort_unstable();
        assert_eq!(owners, [2, 5]);
    }
}
