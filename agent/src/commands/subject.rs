//! The container, unit or sandbox that a process is in, as the registry decides it, and the sandbox that a name means.

use std::num::NonZeroU32;
use std::path::Path;

use agent_host::membership::Membership;
use agent_host::pinned::Pinned;
use agent_host::process::Process;
use agent_inventory::containers::ContainerState;
use agent_inventory::inspect::container_of;
use agent_inventory::namespaces::NamespaceState;
use agent_inventory::units;
use agent_model::container::{Container, ContainerKind};
use agent_model::names;

/// The files of `/proc/PID/ns` that show the namespace of a process's sandbox, in the order in which they decide.
const OF_SANDBOX: [&str; 3] = ["pid", "pid_for_children", "mnt"];

/// The sandbox with this name or id.
pub(super) fn sandbox<'a>(
    target: &str,
    states: &'a [ContainerState],
) -> Option<&'a ContainerState> {
    let sandboxes = states
        .iter()
        .filter(|it| it.container.kind == ContainerKind::Sandbox);
    let mut sandboxes =
        sandboxes.filter(|it| [&*it.container.name, &it.container.id].contains(&target));
    sandboxes.next()
}

/// Pins the oldest process of a sandbox, if it is still in it.
pub(super) fn process_of(sandbox: &ContainerState) -> Option<Pinned> {
    let pid = sandbox.pid?;
    let process = Pinned::open(i32::try_from(pid).ok()?)?;
    let is_in = names_of(pid).any(|name| name == sandbox.container.name);
    (is_in && process.check().is_ok()).then_some(process)
}

/// The names of the sandboxes that a process's namespaces would make.
fn names_of(pid: u32) -> impl Iterator<Item = String> {
    let process = Process::new(Path::new("/"), pid);
    let inodes = OF_SANDBOX
        .into_iter()
        .filter_map(move |file| process.namespace(file).ok());
    inodes.map(names::sandbox)
}

/// What a process is in. `all` are all containers, `namespaces` are those of the process, and `states` has all sandboxes.
pub(super) fn of(
    pid: NonZeroU32,
    all: &[Container],
    namespaces: &[NamespaceState],
    states: &[ContainerState],
) -> Option<Container> {
    let root = Path::new("/");
    if let Some(container) = container_of(root, pid.get(), all) {
        return Some(container);
    }
    let unit = units::of_process(&Membership::of(root, pid.get()).ok()?);
    // A task of a service belongs to the service, whatever its namespaces.
    if unit
        .as_ref()
        .is_some_and(|unit| unit.name.ends_with(".service"))
    {
        return unit;
    }
    sandbox_of(pid, namespaces, states).or(unit)
}

fn sandbox_of(
    pid: NonZeroU32,
    namespaces: &[NamespaceState],
    states: &[ContainerState],
) -> Option<Container> {
    let own = |kind: &str| namespaces.iter().find(|it| it.kind == kind && !it.host);
    let users = &own("pid").or_else(|| own("mnt"))?.containers;
    let users = users.iter().filter(|it| it.kind == ContainerKind::Sandbox);
    let users: Vec<&str> = users.map(|it| &*it.name).collect();
    let name = match users[..] {
        // The process may be in a pid namespace below that of the sandbox.
        [name] => name.to_owned(),
        _ => names_of(pid.get()).find(|name| users.contains(&&**name))?,
    };
    sandbox(&name, states).map(|it| it.container.clone())
}
