//! Formats containers as a table: `agent ps`.

mod fields;
mod filter;
mod format;

use agent_model::container::Container;
use agent_model::names::{NONE, quoted};
use agent_model::table::{ALARM, Cell, Column, DIM, GOOD, NAME, PLAIN, render};
use agent_model::text::escape;
use agent_model::units::size;
use agent_registry::location::short;
pub use fields::Field;
pub use filter::{Filter, Filters};
pub use format::Format;

use super::container_condition::ContainerCondition;
use super::containers::ContainerState;

const COLUMNS: [Column; 8] = [
    Column::left("NAME", 0),
    Column::left("RUNTIME", 5),
    Column::right("PID", 4),
    Column::left("STATE", 0),
    Column::right("MEMORY / LIMIT", 1),
    Column::right("CPU", 3),
    Column::right("PROCESSES", 6),
    Column::right("OOM KILLS", 2),
];

/// Sorts containers: running ones first, units and sandboxes after containers, and each group in the order of names.
pub fn sort(states: &mut [ContainerState]) {
    states.sort_by(|a, b| {
        let key = |state: &ContainerState| {
            let kind = state.container.kind;
            (!state.running, is_over(state), kind)
        };
        let names = a.container.name.cmp(&b.container.name);
        key(a).cmp(&key(b)).then(names)
    });
}

/// Returns a table with a line for each container, at most `columns` wide.
pub fn table(states: &[ContainerState], columns: usize, colour: bool) -> String {
    let rows: Vec<[Cell; 8]> = states.iter().map(row).collect();
    render(&COLUMNS, 0, &rows, columns, colour)
}

/// Returns the id of each container on a line of its own. Digits are cut as docker does, unless `whole`.
pub fn ids(states: &[ContainerState], whole: bool) -> String {
    let ids = states.iter().map(|state| match &*state.container.id {
        id if whole => id,
        id => short(id),
    });
    ids.map(|id| escape(id).into_owned() + "\n").collect()
}

/// Tells whether the container has no cgroup.
fn is_over(state: &ContainerState) -> bool {
    state.removed.is_some()
        || matches!(
            state.state,
            ContainerCondition::Created | ContainerCondition::Exited
        )
}

/// Formats the name of the engine, with a question mark where only the cgroup's path claims it. What no engine made has
/// its kind there.
fn runtime(container: &Container) -> Cell {
    match container.confirmed {
        _ if !container.kind.is_container() => Cell::plain(container.kind.name()),
        Some(false) => Cell::new(format!("{}?", container.runtime), ALARM),
        _ => Cell::plain(&container.runtime),
    }
}

fn row(state: &ContainerState) -> [Cell; 8] {
    let none = || NONE.to_owned();
    let state_colour = match state.state {
        ContainerCondition::Running => GOOD,
        _ => DIM,
    };
    let memory = state.memory_working_set_bytes.map_or_else(none, size);
    let limit = state.memory_effective_limit_bytes.map_or_else(none, size);
    let kills_colour = if state.oom_kills > Some(0) {
        ALARM
    } else {
        PLAIN
    };
    [
        Cell::new(quoted(&state.container.name), NAME),
        runtime(&state.container),
        Cell::plain(state.pid.map_or_else(none, |pid| pid.to_string())),
        Cell::new(state.state.name(), state_colour),
        Cell::plain(format!("{memory} / {limit}")),
        Cell::plain(
            state
                .cpu_percent
                .map_or_else(none, |it| format!("{it:.1}%")),
        ),
        Cell::plain(state.processes.to_string()),
        Cell::new(
            state.oom_kills.map_or_else(none, |it| it.to_string()),
            kills_colour,
        ),
    ]
}

#[cfg(test)]
mod tests;
