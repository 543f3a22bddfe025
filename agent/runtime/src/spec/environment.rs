//! Handles the variables of an environment, `NAME=VALUE`.

use std::collections::HashMap;

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
