//! The table of system calls: their numbers, and when docker allows them.

use caps::Capability;

const TABLE: &str = include_str!("calls.tsv");

/// A row of the table.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub name: &'static str,
    pub x86_64: Option<u32>,
    pub x86: Option<u32>,
    pub x32: Option<u32>,
    pub aarch64: Option<u32>,
    allowed: &'static str,
}

/// The table, sorted by name. The file is parsed when the agent is compiled, so that no launch waits for a parser.
static CALLS: [Call; count(TABLE)] = read(TABLE);

/// Returns all system calls, sorted by name.
#[cfg(test)]
pub(super) fn all() -> &'static [Call] {
    &CALLS
}

/// Returns the calls that docker's default profile allows, with any arguments, to a container with these capabilities.
pub(super) fn allowed(capabilities: &[Capability]) -> impl Iterator<Item = &'static Call> {
    let names = capabilities.iter().map(ToString::to_string);
    let names: Vec<String> = names.map(|name| name.to_ascii_lowercase()).collect();
    let has = move |wanted: &str| {
        let mut names = names.iter().filter_map(|name| name.strip_prefix("cap_"));
        names.any(|name| name == wanted)
    };
    CALLS.iter().filter(move |call| match call.allowed {
        "always" => true,
        "-" => false,
        any => any.split(',').any(&has),
    })
}

/// Finds system calls by name. Lists of names are mostly sorted, so the next name is usually in the row after the last
/// one.
#[derive(Default)]
pub(super) struct Finder {
    next: usize,
}

impl Finder {
    pub(crate) fn find(&mut self, name: &str) -> Option<&'static Call> {
        let mut at = self.next;
        if CALLS.get(at).is_none_or(|call| call.name != name) {
            at = CALLS.binary_search_by_key(&name, |call| call.name).ok()?;
        }
        self.next = at + 1;
        CALLS.get(at)
    }
}

const fn count(table: &str) -> usize {
    let (mut rest, mut rows) = (table, 0);
    while let Some((row, behind)) = cut(rest, b'\n') {
        if row.as_bytes()[0] != b'#' {
            rows += 1;
        }
        rest = behind;
    }
    rows
}

const fn read<const ROWS: usize>(table: &'static str) -> [Call; ROWS] {
    let mut calls = [Call {
        name: "",
        x86_64: None,
        x86: None,
        x32: None,
        aarch64: None,
        allowed: "",
    }; ROWS];
    let (mut rest, mut at) = (table, 0);
    while let Some((row, behind)) = cut(rest, b'\n') {
        if row.as_bytes()[0] != b'#' {
            let (name, row) = field(row);
            let (x86_64, row) = field(row);
            let (x86, row) = field(row);
            let (x32, row) = field(row);
            let (aarch64, allowed) = field(row);
            calls[at] = Call {
                name,
                x86_64: number(x86_64),
                x86: number(x86),
                x32: number(x32),
                aarch64: number(aarch64),
                allowed,
            };
            at += 1;
        }
        rest = behind;
    }
    calls
}

/// Splits a text at the first `by`, which is an ASCII character.
const fn cut(text: &str, by: u8) -> Option<(&str, &str)> {
    let mut at = 0;
    while at < text.len() {
        if text.as_bytes()[at] == by {
            let (before, from) = text.split_at(at);
            return Some((before, from.split_at(1).1));
        }
        at += 1;
    }
    None
}

const fn field(row: &str) -> (&str, &str) {
    cut(row, b'\t').expect("a row of the table has six fields")
}

/// Parses a number; `None` for `-`, where the architecture does not have the call.
const fn number(field: &str) -> Option<u32> {
    let field = field.as_bytes();
    if let [b'-'] = field {
        return None;
    }
    assert!(!field.is_empty(), "a number of a system call, or -");
    let (mut value, mut at) = (0, 0);
    while at < field.len() {
        assert!(
            field[at].is_ascii_digit(),
            "a number of a system call, or -"
        );
        value = value * 10 + (field[at] - b'0') as u32;
        at += 1;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_sorted() {
        let names: Vec<&str> = all().iter().map(|call| call.name).collect();
        assert!(names.is_sorted() && names.len() > 450, "{}", names.len());
        let lines = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(names.len(), lines);
        for call in all() {
            let mut finder = Finder::default();
            assert_eq!(finder.find(call.name).map(|it| it.name), Some(call.name));
        }
        let every: Vec<Capability> = caps::all().into_iter().collect();
        let to_some = all().iter().filter(|call| call.allowed != "-").count();
        assert_eq!(allowed(&every).count(), to_some);
        assert!(allowed(&[]).all(|call| call.allowed == "always"));
    }
}
