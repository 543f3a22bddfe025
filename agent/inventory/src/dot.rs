//! Namespaces as a graph for graphviz: `agent ns --output dot`.

use std::collections::BTreeMap;

use agent_model::names::HOST;
use agent_model::text::escape;

use super::ContainerName;
use super::namespaces::NamespaceState;

/// Who shares what: a line from the host, from each container, and from a process where it is in
/// neither, to the namespaces that it is in; and from a mount to what it alone holds.
pub fn graph(states: &[NamespaceState]) -> String {
    // Node by node, with its attributes; the names of nodes are of our making.
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

/// The names and attributes of the nodes of those who are in it.
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
    let label = quoted(&[&container.name, &container.runtime]);
    let name = format!("{} {}", container.runtime, container.id);
    (name, format!("label={label}, shape=box"))
}

/// Lines as a quoted string of the language (<https://graphviz.org/doc/info/lang.html>), in which
/// only what is escaped here has a meaning.
fn quoted(lines: &[&str]) -> String {
    let lines = lines.iter().map(|line| {
        let line = escape(line);
        line.replace('\\', "\\\\").replace('"', "\\\"")
    });
    format!("\"{}\"", lines.collect::<Vec<_>>().join("\\n"))
}
