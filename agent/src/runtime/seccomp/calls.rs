//! The table of system calls: their numbers, and when docker allows them.

use std::sync::LazyLock;

use caps::Capability;

const TABLE: &str = include_str!("calls.tsv");

/// A row of the table.
pub(super) struct Call {
    pub name: &'static str,
    pub x86_64: Option<u32>,
    pub x86: Option<u32>,
    pub x32: Option<u32>,
    pub aarch64: Option<u32>,
    allowed: &'static str,
}

impl Call {
    /// Whether docker's default profile allows it, whatever its arguments, to a container with these capabilities.
    pub fn is_allowed(&self, capabilities: &[Capability]) -> bool {
        match self.allowed {
            "always" => true,
            "-" => false,
            any => any.split(',').any(|wanted| {
                let wanted = format!("CAP_{}", wanted.to_ascii_uppercase());
                wanted
                    .parse()
                    .is_ok_and(|wanted| capabilities.contains(&wanted))
            }),
        }
    }
}

/// The file is sorted by name.
static CALLS: LazyLock<Vec<Call>> = LazyLock::new(|| {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(read).collect()
});

/// All of them, by name.
pub(super) fn all() -> &'static [Call] {
    &CALLS
}

pub(super) fn find(name: &str) -> Option<&'static Call> {
    let at = CALLS.binary_search_by_key(&name, |call| call.name).ok()?;
    CALLS.get(at)
}

fn read(row: &'static str) -> Option<Call> {
    let mut fields = row.split('\t');
    let name = fields.next()?;
    let mut number = || fields.next().and_then(|field| field.parse().ok());
    let (x86_64, x86, x32, aarch64) = (number(), number(), number(), number());
    Some(Call {
        name,
        x86_64,
        x86,
        x32,
        aarch64,
        allowed: fields.next()?,
    })
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
            let known = ["always", "-"].contains(&call.allowed);
            assert!(
                known || call.is_allowed(&caps::all().into_iter().collect::<Vec<_>>()),
                "{}",
                call.name
            );
        }
    }
}
