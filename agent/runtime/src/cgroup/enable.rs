//! Gives a cgroup of v2 its controllers. Every cgroup above it must pass them on.

use agent_host::control::Control;

use super::place::Way;

const FILE: &str = "cgroup.subtree_control";

/// The controllers that a container's metrics need, whether it has limits or not.
const USUAL: [&str; 5] = ["cpu", "memory", "pids", "io", "cpuset"];

/// Passes on the available controllers of [`USUAL`], in those cgroups on the way that are the agent's.
pub(super) fn usual(way: &Way) {
    let ours = way.cgroups.iter().skip(way.others);
    let above = way.cgroups.len().saturating_sub(way.others + 1);
    for cgroup in ours.take(above) {
        let there = cgroup.read("cgroup.controllers").unwrap_or_default();
        let passed = cgroup.read(FILE).unwrap_or_default();
        let has = |text: &str, name: &str| text.split_whitespace().any(|word| word == name);
        for name in USUAL {
            if has(&there, name) && !has(&passed, name) {
                // If a limit needs this controller, `missing` finds out that it is not passed on.
                let _ = cgroup.write(FILE, &format!("+{name}"));
            }
        }
    }
}

/// Whether a cgroup has any of the controllers that the cgroups below it are to get.
pub(super) fn is_useful(cgroup: &Control) -> bool {
    let there = cgroup.read("cgroup.controllers").unwrap_or_default();
    there.split_whitespace().any(|name| USUAL.contains(&name))
}

/// Takes all controllers from the cgroups below, as far as the kernel allows it.
pub(super) fn none(cgroup: &Control) {
    let passed = cgroup.read(FILE).unwrap_or_default();
    for name in passed.split_whitespace() {
        let _ = cgroup.write(FILE, &format!("-{name}"));
    }
}

/// Whether the base itself lacks a controller. Only the maker of the base can give it one.
pub(super) fn lacks(base: &Control, controller: &str) -> bool {
    let there = base.read("cgroup.controllers").unwrap_or_default();
    !there.split_whitespace().any(|name| name == controller)
}

/// Returns the topmost `cgroup.subtree_control` above the cgroup in which `controller` is missing.
pub(super) fn missing(way: &Way, controller: &str) -> Option<std::path::PathBuf> {
    let (_, above) = way.cgroups.split_last()?;
    let lacks = |cgroup: &&Control| {
        let passed = cgroup.read(FILE).unwrap_or_default();
        !passed.split_whitespace().any(|name| name == controller)
    };
    above
        .iter()
        .find(lacks)
        .map(|cgroup| cgroup.path.join(FILE))
}
