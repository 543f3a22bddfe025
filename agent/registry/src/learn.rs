//! What the registry learns from events.

use std::time::Instant;

use agent_ebpf::{CgroupKey, Counts};
use agent_model::clock::Clock;
use agent_model::event::{Body, Event};

use crate::life::LifeChange;
use crate::registry::Registry;

/// Applies an event of the rare ring to the registry, and returns the start or stop of a container that it causes. An exec
/// or exit in that ring is one of a cgroup's init process.
///
/// `take` removes a cgroup's counts from the kernel's maps, and returns them. It is called for a removed cgroup.
pub fn learn(
    event: &Event,
    registry: &mut Registry,
    clock: Clock,
    take: impl FnOnce(CgroupKey) -> Counts,
) -> Option<LifeChange> {
    match &event.body {
        Body::CgroupMkdir { cgroup, path } => {
            registry.add(*cgroup, path, clock.wall(event.time));
            None
        }
        Body::CgroupRmdir { cgroup } => registry.remove(*cgroup, &take(*cgroup), Instant::now()),
        Body::CgroupPopulated { cgroup, populated } => {
            registry.set_populated(*cgroup, *populated, event.time)
        }
        Body::Exec(_) => {
            registry.set_init(&event.caller);
            None
        }
        Body::Exit { status, .. } => {
            registry.set_exit(&event.caller, *status, event.time);
            None
        }
        Body::Oom(oom, _) => {
            registry.set_oom_killed(&oom.victim);
            None
        }
        Body::Unshare(_) | Body::Setns(_) => {
            registry.set_namespaces(&event.caller);
            None
        }
        Body::Clone(_) | Body::Fork { .. } | Body::Escape { .. } => None,
    }
}
