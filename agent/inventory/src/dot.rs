//! Formats namespaces as a graph for graphviz: `agent ns --output dot`.

use std::collections::BTreeMap;

use agent_model::container::ContainerKind;
use agent_model::names::HOST;
use agent_model::text::escape;

use super::ContainerName;
use super::namespaces::NamespaceState;

/// Returns a graph with a line from each user of a namespace to that namespace. The users are the host, containers,
/// units and sandboxes. A namespace without any of them has its oldest process for a user, and one without processes
/// the mounts that hold it.
pub fn graph(states: &[NamespaceState]) -> String {
    // The attributes of each node, by the node's quoted name.
    let mut nodes: BTreeMap<String, String> = BTreeMap::new();
    let mut edges = String::new();
    for state in states {
        let namespace = format!("{}:[{}]", state.kind, state.inode);
        let label = quoted(&[&state.kind, &state.inode.to_string()]);
        nodes.insert(
            quoted(&[&namespace]),
            format!("label={label}, shape=ellipse"),
        );
        for (user, attributes) in users(state) {
            let user = quoted(&[&user]);
            edges += &format!("  {user} -- {};\n", quoted(&[&namespace]));
            nodes.insert(user, attributes);
        }
    }
    let nodes = nodes
        .into_iter()
        .map(|(name, attributes)| format!("  {name} [{attributes}];\n"));
    let nodes: String = nodes.collect();
    format!("graph namespaces {{\n  rankdir=LR;\n{nodes}{edges}}}\n")
}

/// Returns the names and attributes of the nodes that are linked to a namespace.
fn users(state: &NamespaceState) -> Vec<(String, String)> {
    let mut users: Vec<(String, String)> = state.containers.iter().map(container).collect();
    if state.host {
        users.insert(0, (HOST.to_owned(), "shape=house".to_owned()));
    }
    if users.is_empty()
        && let Some(owner) = &state.owner
    {
        let label = quoted(&[&owner.comm, &format!("pid {}", owner.pid)]);
        users.push((
            format!("pid {}", owner.pid),
            format!("label={label}, shape=plain"),
        ));
    }
    let mounts = state.mounts.iter().filter(|_| state.processes == 0);
    users.extend(mounts.map(|point| {
        let label = quoted(&[point]);
        (
            format!("mount {point}"),
            format!("label={label}, shape=plain"),
        )
    }));
    users
}

fn container(container: &ContainerName) -> (String, String) {
    let maker = match container.kind {
        ContainerKind::Container => &*container.runtime,
        other => other.name(),
    };
    let label = quoted(&[&container.name, maker]);
    let name = format!("{maker} {}", container.id);
    (name, format!("label={label}, shape=box"))
}

/// Joins lines to a quoted string of the DOT language (<https://graphviz.org/doc/info/lang.html>). The two characters
/// that this function escapes are the only special ones there.
fn quoted(lines: &[&str]) -> String {
    let lines = lines.iter().map(|line| {
        let line = escape(line);
        line.replace('\\', "\\\\").replace('"', "\\\"")
    });
    format!("\"{}\"", lines.collect::<Vec<_>>().join("\\n"))
}
