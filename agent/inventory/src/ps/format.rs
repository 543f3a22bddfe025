//! Formats containers by the user's template: `agent ps --format`.

use std::str::FromStr;

use agent_model::table::{Align, Cell, Column, PLAIN, render};
use agent_model::text::{escape, escape_json};

use super::fields::{Field, labels};
use crate::containers::ContainerState;

/// A template as docker's: text with `{{.FIELD}}`, `{{.Label "KEY"}}` and `{{json .}}` in it. `table` before it gives
/// columns with titles, which tabs separate; `json` stands for `{{json .}}`.
#[derive(Clone, Debug)]
pub struct Format {
    is_table: bool,
    /// The parts of each column. There is one column without `table`.
    columns: Vec<Vec<Part>>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Field(Field),
    Label(String),
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let (is_table, template) = match &*text {
            "" | "table" => return Err(WANTED.to_owned()),
            "json" => (false, "{{json .}}"),
            text => match text.strip_prefix("table ") {
                Some(rest) => (true, rest),
                None => (false, text),
            },
        };
        let columns: Result<_, String> = match is_table {
            true => template.split('\t').map(parts).collect(),
            false => parts(template).map(|parts| vec![parts]),
        };
        Ok(Self {
            is_table,
            columns: columns?,
        })
    }
}

const WANTED: &str =
    "want json, or a template as '{{.Names}}: {{.State}}' or 'table {{.Names}}\\t{{.Memory}}'";

/// Parses the parts of a template or of one of its columns.
fn parts(template: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (action, behind) = behind
            .split_once("}}")
            .ok_or_else(|| format!("\"{{{{{behind}\" has no end; {WANTED}"))?;
        parts.push(Part::Text(before.to_owned()));
        parts.push(part(action.trim())?);
        rest = behind;
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

fn part(action: &str) -> Result<Part, String> {
    if action == "json ." {
        return Ok(Part::Json);
    }
    let label = action.strip_prefix(".Label ").map(str::trim);
    let label = label.and_then(|it| it.strip_prefix('"')?.strip_suffix('"'));
    match (label, action.strip_prefix('.')) {
        (Some(label), _) => Ok(Part::Label(label.to_owned())),
        (None, Some(field)) => field.parse().map(Part::Field),
        (None, None) => Err(format!("{{{{{action}}}}} is not understood; {WANTED}")),
    }
}

impl Part {
    fn show(&self, state: &ContainerState, whole: bool) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Field(field) => escape(&field.show(state, whole)).into_owned(),
            Self::Label(name) => {
                let label = labels(state).remove(name).unwrap_or_default();
                escape(&label).into_owned()
            }
            Self::Json => {
                let json = serde_json::to_string(state).unwrap_or_default();
                escape_json(&json).into_owned()
            }
        }
    }
}

impl Format {
    /// Formats containers. Long ids are cut, as docker does, unless `whole`. A table is at most `columns` wide.
    pub fn show(&self, states: &[ContainerState], whole: bool, columns: usize) -> String {
        let texts = |state: &ContainerState| -> Vec<String> {
            let column = |parts: &Vec<Part>| -> String {
                parts.iter().map(|part| part.show(state, whole)).collect()
            };
            self.columns.iter().map(column).collect()
        };
        if !self.is_table {
            let lines = states.iter().flat_map(texts);
            return lines.map(|line| line + "\n").collect();
        }
        let header: Vec<Column> = self.columns.iter().map(|parts| head(parts)).collect();
        let rows = states.iter().map(texts);
        let row =
            |texts: Vec<String>| -> Vec<Cell> { texts.into_iter().map(Cell::plain).collect() };
        let rows: Vec<Vec<Cell>> = rows.map(row).collect();
        render(&header, 0, &rows, columns, false)
    }
}

/// The head of a column is that of the first field in it.
fn head(parts: &[Part]) -> Column {
    let field = parts.iter().find_map(|part| match part {
        Part::Field(field) => Some((field.title(), field.align())),
        Part::Label(_) => Some(("LABEL", Align::Left)),
        Part::Json => Some(("JSON", Align::Left)),
        Part::Text(_) => None,
    });
    let (title, align) = field.unwrap_or((PLAIN, Align::Left));
    Column {
        title,
        align,
        rank: 0,
    }
}
