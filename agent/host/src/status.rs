//! What the kernel allows a process to do: proc_pid_status(5), capabilities(7), seccomp(2).

use super::Error;
use super::file::{File, number};

/// The sets of capabilities of a process: the name of each, and its row.
pub const SETS: [(&str, &str); 5] = [
    ("effective", "CapEff"),
    ("permitted", "CapPrm"),
    ("inheritable", "CapInh"),
    ("bounding", "CapBnd"),
    ("ambient", "CapAmb"),
];

/// The modes of seccomp. The index is the kernel's number.
const MODES: [&str; 3] = ["off", "strict", "filter"];

/// What the kernel allows a process to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The capabilities in each of the [`SETS`], such as `CAP_KILL`, in alphabetical order.
    pub capabilities: [Vec<String>; SETS.len()],
    pub no_new_privs: bool,
    /// The mode of seccomp. `off` also where the kernel was built without seccomp.
    pub seccomp: &'static str,
    pub seccomp_filters: u32,
}

impl Status {
    pub(super) fn parse(file: &File) -> Result<Self, Error> {
        let mut held = SETS.map(|_| Vec::new());
        for (held, (_, row)) in held.iter_mut().zip(SETS) {
            let names = capabilities(file, row);
            let wanted = "CapEff, CapPrm, CapInh, CapBnd, CapAmb with hexadecimal digits";
            *held = names.ok_or_else(|| file.malformed(&file.bytes, wanted))?;
        }
        let no_new_privs: u8 =
            file.expect_number_of("NoNewPrivs:", "a row NoNewPrivs with 0 or 1")?;
        Ok(Self {
            capabilities: held,
            no_new_privs: no_new_privs != 0,
            seccomp: mode(file)?,
            seccomp_filters: file.number_of("Seccomp_filters:")?.unwrap_or_default(),
        })
    }
}

fn mode(file: &File) -> Result<&'static str, Error> {
    let word = file.word_of("Seccomp:").unwrap_or(b"0");
    let known = number(word).and_then(|number: usize| MODES.get(number).copied());
    known.ok_or_else(|| file.malformed(word, "a mode of seccomp, 0 to 2"))
}

/// Returns the names of the capabilities in a row. Returns `None` where there is no such row, or it does not hold
/// hexadecimal digits.
pub(super) fn capabilities(status: &File, row: &str) -> Option<Vec<String>> {
    let bits = str::from_utf8(status.word_of(&format!("{row}:"))?).ok()?;
    let bits = u64::from_str_radix(bits, 16).ok()?;
    let all = caps::all().into_iter();
    let held = all.filter(|capability| bits & capability.bitmask() != 0);
    let mut names: Vec<_> = held.map(|capability| capability.to_string()).collect();
    names.sort_unstable();
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
Name:\tCapEff: 1
CapInh:\t0000000000000000
CapPrm:\t0000000000200020
CapEff:\t0000000000000020
CapBnd:\t0000000000000020
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t3
";

    fn parse(text: &str) -> Result<Status, Error> {
        Status::parse(&File {
            path: "status".into(),
            bytes: text.into(),
        })
    }

    #[test]
    fn what_is_allowed() {
        let kill = || vec!["CAP_KILL".to_owned()];
        let both = vec!["CAP_KILL".to_owned(), "CAP_SYS_ADMIN".to_owned()];
        let wanted = Status {
            capabilities: [kill(), both, vec![], kill(), vec![]],
            no_new_privs: true,
            seccomp: "filter",
            seccomp_filters: 3,
        };
        assert_eq!(parse(STATUS).unwrap(), wanted);
    }

    #[test]
    fn a_kernel_without_seccomp() {
        let (without, _) = STATUS.split_once("Seccomp").unwrap();
        let status = parse(without).unwrap();
        assert_eq!((status.seccomp, status.seccomp_filters), ("off", 0));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (from, to) in [
            ("CapBnd", "CapBound"),
            ("CapAmb:\t0", "CapAmb:\tx"),
            ("NoNewPrivs", "NoPrivs"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t-1"),
            ("Seccomp:\t2", "Seccomp:\t7"),
            ("filters:\t3", "filters:\tmany"),
        ] {
            let error = parse(&STATUS.replace(from, to)).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{error}");
        }
    }
}
