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
                capabilities.iter().any(|capability| {
                    capability
                        .to_string()
                        .get(4..)
                        .is_some_and(|name| name.eq_ignore_ascii_case(wanted))
                })
            }),
        }
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
