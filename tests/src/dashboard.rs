//! What is in `dashboards/`: its files, and the expressions that Grafana makes of a dashboard.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// What begins the name of a metric.
const ROOMS: [&str; 3] = ["container_", "machine_", "agent_"];

/// What Grafana puts in place of a variable, where all hosts and containers are chosen, and the last minute.
const VARIABLES: [(&str, &str); 4] = [
    ("$host", ".*"),
    ("$container", ".*"),
    ("$__rate_interval", "20s"),
    ("$__range", "1m"),
];

/// What gives an answer where there is none.
const ELSE: [&str; 2] = [" or vector(0)", " or absent("];

const COMPARISONS: [&str; 6] = ["==", "!=", ">", "<", ">=", "<="];

/// The file of this name.
pub fn file(name: &str) -> PathBuf {
    directory().join(name)
}

/// All files.
///
/// # Panics
/// Where they cannot be listed.
pub fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).expect("the directory of the dashboards");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.collect()
}

/// The dashboards.
///
/// # Panics
/// Where one is not JSON.
pub fn dashboards() -> Vec<Value> {
    let mut paths = files();
    paths.retain(|path| path.extension().is_some_and(|it| it == "json"));
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a dashboard");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

/// The expressions of a dashboard's panels and variables, as Grafana sends them, each with what it is for.
///
/// # Panics
/// Where it has no panels or no variables.
pub fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let of_panels = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (panel["title"].to_string(), &target["expr"]))
    });
    let variables = dashboard["templating"]["list"].as_array();
    let variables = variables.expect("variables").iter();
    let of_variables = variables
        .filter(|variable| variable["type"] == "query")
        .map(|variable| (variable["name"].to_string(), &variable["query"]["query"]));
    let all = of_panels.chain(of_variables);
    all.map(|(what, expression)| {
        let expression = expression.as_str().expect("an expression");
        (what, substituted(expression))
    })
    .collect()
}

/// An expression with values for variables. A list of label values is made an expression by counting them.
fn substituted(expression: &str) -> String {
    let mut text = expression.to_owned();
    for (variable, value) in VARIABLES {
        text = text.replace(variable, value);
    }
    let values = text.strip_prefix("label_values(");
    let values = values.and_then(|it| it.strip_suffix(')')?.rsplit_once(", "));
    match values {
        Some((series, label)) => format!("count by ({label}) ({series})"),
        None => text,
    }
}

/// An expression that has an answer whatever the values are: without its comparisons, and without what answers in place
/// of series that are missing.
pub fn vector_of(expression: &str) -> String {
    let end = ELSE.iter().filter_map(|other| expression.find(other)).min();
    let words = expression[..end.unwrap_or(expression.len())].split_whitespace();
    let mut vector: Vec<String> = Vec::new();
    let mut compared = false;
    for word in words {
        if COMPARISONS.contains(&word) {
            compared = true;
            continue;
        }
        // The number that is compared with; a bracket behind it is not a part of it.
        let word = if compared {
            word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
        } else {
            word
        };
        compared = false;
        vector.push(word.to_owned());
    }
    vector.retain(|word| !word.is_empty());
    vector.join(" ")
}

/// The names of metrics in a text.
pub fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| ROOMS.iter().any(|room| word.starts_with(room)))
        .collect()
}

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboards"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_no_part_of_the_vector() {
        assert_eq!(vector_of("a / b > 0.95"), "a / b");
        assert_eq!(
            vector_of("a > 0\n or\n(b > 0 unless b offset 5m)"),
            "a or (b unless b offset 5m)"
        );
        assert_eq!(vector_of("count(a > 0) or vector(0)"), "count(a )");
        assert_eq!(vector_of("up == 0 or absent(up)"), "up");
        assert_eq!(vector_of("a{b>=\"1\"}"), "a{b>=\"1\"}");
    }

    #[test]
    fn variables_have_values() {
        assert_eq!(
            substituted("rate(a{x=~\"$host\"}[$__rate_interval])"),
            "rate(a{x=~\".*\"}[20s])"
        );
        assert_eq!(
            substituted("label_values(a{b=\"c\", d=\"e\"}, name)"),
            "count by (name) (a{b=\"c\", d=\"e\"})"
        );
    }
}
