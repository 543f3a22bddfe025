//! Formats containers as a table: `agent ps`.

use agent_model::container::Container;
use agent_model::names::{NONE, quoted};
use agent_model::units::size;

use super::containers::{ContainerCondition, ContainerState};
use agent_model::table::{ALARM, Align, Cell, Column, DIM, GOOD, NAME, PLAIN, render};

const COLUMNS: [Column; 8] = [
    ("NAME", Align::Left),
    ("RUNTIME", Align::Left),
    ("PID", Align::Right),
    ("STATE", Align::Left),
    ("MEMORY / LIMIT", Align::Right),
    ("CPU", Align::Right),
    ("PROCESSES", Align::Right),
    ("OOM KILLS", Align::Right),
];

/// Returns a table with a line for each container, at most `columns` wide. Running containers come first, and each
/// group is in the order of names.
pub fn table(states: &[ContainerState], columns: usize, colour: bool) -> String {
    let mut states: Vec<&ContainerState> = states.iter().collect();
    states.sort_by_key(|state| (!state.running, is_over(state), &state.container.name));
    let rows: Vec<[Cell; 8]> = states.into_iter().map(row).collect();
    render(&COLUMNS, 0, &rows, columns, colour)
}

/// Tells whether the container has no cgroup.
fn is_over(state: &ContainerState) -> bool {
    state.removed.is_some()
        || matches!(
            state.state,
            ContainerCondition::Created | ContainerCondition::Exited
        )
}

/// Formats the name of the engine, with a question mark where only the cgroup's path claims it.
fn runtime(container: &Container) -> Cell {
    match container.confirmed {
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
