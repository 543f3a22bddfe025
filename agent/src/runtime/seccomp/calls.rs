//! The table of system calls: their numbers, and when docker allows them.

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

/// All of them, to be found by name.
pub(super) struct Table(Vec<Call>);

impl Table {
    /// The file is sorted by name.
    pub fn read() -> Self {
        Self(all().collect())
    }

    pub fn find(&self, name: &str) -> Option<&Call> {
        let at = self.0.binary_search_by_key(&name, |call| call.name).ok()?;
        self.0.get(at)
    }
}

/// All of them, by name.
pub(super) fn all() -> impl Iterator<Item = Call> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split('\t');
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
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_sorted() {
        let names: Vec<&str> = all().map(|call| call.name).collect();
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
