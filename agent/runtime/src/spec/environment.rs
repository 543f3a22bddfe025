//! Handles the variables of an environment, `NAME=VALUE`.

use std::collections::HashMap;

use super::flags::Flags;
use super::{Error, SpecFacts};

/// Returns the variables that flags set: first those of the files, by docker's rules.
pub(super) fn asked(flags: &Flags, found: &SpecFacts) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for (path, text) in &found.env_files {
        let text = text.trim_start_matches('\u{feff}');
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let variable = match name(line) {
                name if name.contains(char::is_whitespace) => Err("the name has a space in it"),
                _ if line.contains('\0') => Err("it has a zero byte in it"),
                _ => variable(line, &found.variables),
            };
            let place = || format!("{path} line {}", at + 1);
            all.extend(variable.map_err(|why| Error::flag("--env-file", &place(), why))?);
        }
    }
    for text in &flags.process.env {
        let variable = variable(text, &found.variables);
        all.extend(variable.map_err(|why| Error::flag("--env", text, why))?);
    }
    Ok(all)
}

/// Parses a variable. A name alone takes the caller's value; there is none where the caller does not have it.
fn variable(text: &str, callers: &HashMap<String, String>) -> Result<Option<String>, &'static str> {
    if text.is_empty() || text.starts_with('=') {
        return Err("wanted: NAME=VALUE or NAME");
    }
    if text.contains('=') {
        return Ok(Some(text.to_owned()));
    }
    let value = callers.get(text);
    Ok(value.map(|value| format!("{text}={value}")))
}

/// Returns the last variable of each name, in the position of the name's first variable. An image may have very many
/// variables, so the time is proportional to their number.
pub(crate) fn last_of_each(variables: impl IntoIterator<Item = String>) -> Vec<String> {
    let variables: Vec<String> = variables.into_iter().collect();
    let mut lasts: HashMap<&str, usize> = HashMap::with_capacity(variables.len());
    for (at, variable) in variables.iter().enumerate() {
        lasts.insert(name(variable), at);
    }
    let first = |variable: &String| lasts.remove(name(variable));
    let order: Vec<usize> = variables.iter().filter_map(first).collect();
    order
        .into_iter()
        .filter_map(|at| variables.get(at).cloned())
        .collect()
}

fn name(variable: &str) -> &str {
    variable.split('=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_last_of_a_name_stands_where_the_first_stood() {
        let of = |text: &str| last_of_each(text.split(' ').map(str::to_owned)).join(" ");
        assert_eq!(of("A=1 B=2 A=3 C A= C=4=5"), "A= B=2 C=4=5");
        assert_eq!(of(""), "");
    }

    #[test]
    fn many_variables_take_no_more_time_than_it_takes_to_read_them() {
        let many = (0..400_000).map(|number| format!("V{number}=x"));
        let begin = Instant::now();
        assert_eq!(last_of_each(many).len(), 400_000);
        // To compare each name with each other one would take hours.
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}
