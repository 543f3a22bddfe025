//! The fields of a container by which `agent ps` formats and sorts.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::SystemTime;

use agent_model::names::NONE;
use agent_model::table::Align;
use agent_model::units::{duration, size};
use agent_registry::location::short;

use crate::containers::ContainerState;

/// A field. Its text is parsed without regard to case, and has docker's name where docker has such a field.
#[derive(Clone, Copy, Debug)]
pub struct Field(&'static Row);

#[derive(Debug)]
struct Row {
    name: &'static str,
    /// The title of the column.
    title: &'static str,
    align: Align,
    of: fn(&ContainerState) -> FieldValue,
}

/// The value of a field: its text, and the number that it is sorted by.
#[derive(Debug, PartialEq)]
pub(super) enum FieldValue {
    Text(String),
    /// A number that is not known has the text `-`.
    Number(String, Option<f64>),
}

use FieldValue::Text;

#[rustfmt::skip]
static ROWS: [Row; 15] = [
    text("Names", "NAME", |it| Text(it.container.name.clone())),
    text("ID", "ID", |it| Text(it.container.id.clone())),
    text("Image", "IMAGE", |it| Text(it.container.image.clone())),
    text("Runtime", "RUNTIME", |it| Text(it.container.runtime.clone())),
    text("State", "STATE", |it| Text(it.state.name().to_owned())),
    text("Status", "STATUS", |it| Text(status(it))),
    text("Started", "STARTED", |it| Text(it.started.map_or_else(none, |it| it.to_string()))),
    number("Pid", "PID", |it| count(it.pid)),
    number("Memory", "MEMORY", |it| bytes(it.memory_working_set_bytes)),
    number("Limit", "LIMIT", |it| bytes(it.memory_effective_limit_bytes)),
    number("CPU", "CPU", |it| known(it.cpu_percent, |it| format!("{it:.1}%"), |it| it)),
    number("Processes", "PROCESSES", |it| count(Some(it.processes))),
    number("OOMKills", "OOM KILLS", |it| known(it.oom_kills, |it| it.to_string(), |it| it as f64)),
    text("Cgroup", "CGROUP", |it| Text(it.container.cgroup.clone())),
    text("Labels", "LABELS", |it| Text(joined(&labels(it)))),
];

const fn text(
    name: &'static str,
    title: &'static str,
    of: fn(&ContainerState) -> FieldValue,
) -> Row {
    let align = Align::Left;
    Row {
        name,
        title,
        align,
        of,
    }
}

const fn number(
    name: &'static str,
    title: &'static str,
    of: fn(&ContainerState) -> FieldValue,
) -> Row {
    let align = Align::Right;
    Row {
        name,
        title,
        align,
        of,
    }
}

fn none() -> String {
    NONE.to_owned()
}

fn known<T: Copy>(
    value: Option<T>,
    shown: impl Fn(T) -> String,
    number: impl Fn(T) -> f64,
) -> FieldValue {
    FieldValue::Number(value.map_or_else(none, shown), value.map(number))
}

fn count(number: Option<u32>) -> FieldValue {
    known(number, |it| it.to_string(), f64::from)
}

fn bytes(number: Option<u64>) -> FieldValue {
    known(number, size, |it| it as f64)
}

/// Formats the state, and how long a running container has run.
fn status(state: &ContainerState) -> String {
    let name = state.state.name();
    let started = state.started.filter(|_| state.running);
    let run = started.and_then(|it| SystemTime::now().duration_since(it.into()).ok());
    run.map_or_else(
        || name.to_owned(),
        |run| {
            let ms = u64::try_from(run.as_millis()).unwrap_or(u64::MAX);
            format!("{name} {}", duration(ms))
        },
    )
}

/// Returns the labels of a container.
pub(super) fn labels(state: &ContainerState) -> BTreeMap<String, String> {
    let json = serde_json::to_value(&state.container).unwrap_or_default();
    let labels = json.get("labels").cloned().unwrap_or_default();
    serde_json::from_value(labels).unwrap_or_default()
}

fn joined(labels: &BTreeMap<String, String>) -> String {
    let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

impl Field {
    pub(super) const fn title(self) -> &'static str {
        self.0.title
    }

    pub(super) const fn align(self) -> Align {
        self.0.align
    }

    /// Returns the text of the field. A long id is cut, as docker does, unless `whole`.
    pub(super) fn show(self, state: &ContainerState, whole: bool) -> String {
        match (self.0.of)(state) {
            Text(id) if self.0.name == "ID" && !whole => short(&id).to_owned(),
            Text(text) | FieldValue::Number(text, _) => text,
        }
    }

    /// Sorts by the field: texts in ascending order, numbers the largest first. What is not known comes last.
    pub fn sort(self, states: &mut [ContainerState]) {
        states.sort_by(|a, b| match ((self.0.of)(a), (self.0.of)(b)) {
            (Text(a), Text(b)) => a.cmp(&b),
            (FieldValue::Number(_, a), FieldValue::Number(_, b)) => {
                let least = |it: Option<f64>| it.unwrap_or(f64::NEG_INFINITY);
                least(b).total_cmp(&least(a))
            }
            _ => Ordering::Equal,
        });
    }
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // docker has both names for the same field.
        let name = match text.to_ascii_lowercase().as_str() {
            "name" => "Names",
            _ => text,
        };
        let found = ROWS.iter().find(|row| row.name.eq_ignore_ascii_case(name));
        found.map(Self).ok_or_else(|| {
            let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            format!("there is no field {text:?}; want {}", names.join(", "))
        })
    }
}
