//! Formats namespaces as a table: `agent ns`.

use agent_model::names::{HOST, NONE, quoted};

use super::namespaces::NamespaceState;
use agent_model::table::{Cell, Column, DIM, NAME, PLAIN, render};

const COLUMNS: [Column; 6] = [
    Column::left("TYPE", 0),
    Column::right("INODE", 1),
    Column::right("PROCESSES", 3),
    Column::left("OWNER", 2),
    Column::right("UID", 4),
    Column::left("SHARED BY", 0),
];

/// Returns a table with a line for each namespace, at most `columns` wide.
pub fn table(states: &[NamespaceState], columns: usize, colour: bool) -> String {
    let rows: Vec<[Cell; 6]> = states.iter().map(row).collect();
    render(&COLUMNS, 5, &rows, columns, colour)
}

fn row(state: &NamespaceState) -> [Cell; 6] {
    let none = || NONE.to_owned();
    let owner = state.owner.as_ref();
    [
        Cell::plain(&state.kind),
        Cell::plain(state.inode.to_string()),
        Cell::plain(state.processes.to_string()),
        Cell::plain(owner.map_or_else(none, |it| format!("{}({})", it.comm, it.pid))),
        Cell::plain(owner.map_or_else(none, |it| it.uid.to_string())),
        Cell::new(users(state), users_colour(state)),
    ]
}

/// Returns the users of a namespace: `host,web,db`, after the name of a network namespace: `netns:lab,web`. For a namespace
/// without processes these are its holders: `/run/netns/lab`, `thread 12 of java(7)`.
fn users(state: &NamespaceState) -> String {
    let name = state.name.as_ref().filter(|_| state.processes > 0);
    let name = name.map(|name| format!("netns:{name}"));
    let host = state.host.then(|| HOST.to_owned());
    let containers = state.containers.iter().map(|it| quoted(&it.name));
    let mounts = state.mounts.iter().filter(|_| state.processes == 0);
    let mounts = mounts.map(|point| quoted(point));
    let holders = state.holders.iter().map(|it| {
        let comm = quoted(&it.comm);
        format!("{} of {comm}({})", quoted(&it.by), it.pid)
    });
    let users = name.into_iter().chain(host).chain(containers);
    let users: Vec<String> = users.chain(mounts).chain(holders).collect();
    if users.is_empty() {
        NONE.to_owned()
    } else {
        users.join(",")
    }
}

fn users_colour(state: &NamespaceState) -> &'static str {
    match (state.containers.is_empty(), state.host) {
        (false, _) => NAME,
        (true, true) => DIM,
        (true, false) => PLAIN,
    }
}
