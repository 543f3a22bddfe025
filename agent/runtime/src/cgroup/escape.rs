//! Finds out whether a process that moves to another cgroup of v2 would escape a limit.

use std::fmt;
use std::path::PathBuf;

use agent_host::hierarchy::{Hierarchies, Mounted};
use agent_host::membership::Membership;
use agent_limits::limit::bound::Standing;
use agent_limits::limit::chain::Chain;
use agent_limits::limits::Limits;
use agent_model::limit::{Bound, Bounds, Held, Kind, Limit, Link, Unknown};
use agent_model::text::error_line;

/// A limit that would not hold after the move, or might not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    Left(Bound),
    Unknown(Unknown),
}

/// Returns the first limit in `bounds` that would not hold for a process in a new cgroup below `target`. A limit that
/// cannot be read, in either place, is [`Escape::Unknown`]. `most_tasks` returns the limit of tasks that the new cgroup
/// itself will have.
pub(super) fn find(
    hierarchies: &Hierarchies,
    v2: &Mounted,
    bounds: &Bounds,
    target: &str,
    most_tasks: impl Fn() -> Option<u64>,
) -> Option<Escape> {
    if let Some(unknown) = bounds.unknown.first() {
        return Some(Escape::Unknown(unknown.clone()));
    }
    let membership: Membership = [(v2.id, target.to_owned())].into_iter().collect();
    let limits = Limits {
        hierarchies,
        membership: &membership,
    };
    let new = format!("{}/new", target.trim_end_matches('/'));
    bounds.known.iter().find_map(|bound| {
        let there = match limits.chain(bound.kind, bound.device) {
            Ok(chain) => below(chain),
            Err(error) => {
                let (kind, why) = (bound.kind, error_line(&error));
                return Some(Escape::Unknown(Unknown { kind, why }));
            }
        };
        let holds = |chain: &Chain| matches!(chain.standing(bound), Standing::Holds(_));
        let left = !holds(&there)
            && (bound.kind != Kind::Pids || !holds(&with_usual(there, &new, &most_tasks)));
        left.then(|| Escape::Left(bound.clone()))
    })
}

/// Returns the chain of a new cgroup below the one of `chain`.
fn below(mut chain: Chain) -> Chain {
    if let Ok(own) = &chain.own {
        chain.above.insert(0, own.clone());
    }
    chain
}

/// Adds the limit of tasks of the new cgroup at `path`. The chain is then that of a cgroup below it.
fn with_usual(mut chain: Chain, path: &str, most_tasks: impl Fn() -> Option<u64>) -> Chain {
    chain.above.extend(most_tasks().map(|most| Link {
        cgroup: path.to_owned(),
        file: PathBuf::new(),
        text: String::new(),
        held: Held::Amount(Limit::Value(most)),
    }));
    chain
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left(bound) => {
                let Link {
                    file, text, cgroup, ..
                } = &bound.link;
                let file = file.file_name().unwrap_or_default().display();
                let text = text.lines().collect::<Vec<_>>().join("; ");
                write!(f, "would leave the limit {file} {text} of {cgroup}")
            }
            Self::Unknown(Unknown { kind, why }) => {
                let flag = kind.flag();
                write!(
                    f,
                    "might leave a limit of {flag}, which cannot be read: {why}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_host::fixture::tree;
    use agent_limits::limits::bounds;

    use super::*;

    const MOUNTINFO: &str = "31 27 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    fn escape(files: &[(&str, &str)], own: &str, target: &str) -> Option<String> {
        let mut all = vec![
            ("proc/self/mountinfo", MOUNTINFO),
            ("proc/self/cgroup", "0::/\n"),
            (
                "sys/fs/cgroup/cgroup.controllers",
                "memory cpu cpuset io pids\n",
            ),
        ];
        let named: Vec<_> = files
            .iter()
            .map(|(path, text)| (format!("sys/fs/cgroup/{path}"), *text))
            .collect();
        all.extend(named.iter().map(|(path, text)| (&**path, *text)));
        let root = tree(&all);
        let hierarchies = Hierarchies::discover(root.path()).unwrap();
        let v2 = hierarchies.by_id(0).unwrap();
        let own = [(0, own.to_owned())].into_iter().collect();
        let bounds = bounds(&hierarchies, &own);
        find(&hierarchies, v2, &bounds, target, || Some(500)).map(|found| found.to_string())
    }

    #[test]
    fn a_limit_of_the_callers_path_alone_is_left() {
        let both = [
            ("u/memory.max", "100\n"),
            ("u/session/memory.max", "max\n"),
            ("u/manager/memory.max", "max\n"),
        ];
        assert_eq!(escape(&both, "/u/session", "/u/manager"), None);
        let mut left = both;
        left[1].1 = "40\n";
        let said = escape(&left, "/u/session", "/u/manager");
        assert_eq!(
            said.as_deref(),
            Some("would leave the limit memory.max 40 of /u/session")
        );
        // A limit that does not change the effective limit is not left behind.
        left[1].1 = "100\n";
        assert_eq!(escape(&left, "/u/session", "/u/manager"), None);
        left[2].1 = "30\n";
        assert_eq!(escape(&left, "/u/session", "/u/manager"), None);
    }

    #[test]
    fn each_kind_of_limit_counts() {
        for (file, text) in [
            ("memory.high", "5"),
            ("memory.swap.max", "0"),
            ("cpu.max", "1000 100000"),
            ("cpuset.cpus", "0"),
            ("pids.max", "20"),
            ("io.max", "8:0 rbps=max wbps=7 riops=max wiops=max"),
        ] {
            let path = format!("a/{file}");
            let files = [(&*path, text), ("b/pids.max", "max")];
            let said = escape(&files, "/a", "/b").unwrap_or_default();
            assert!(said.contains(file), "{file}: {said}");
        }
    }

    /// Not even root can read a directory as a file.
    #[test]
    fn a_limit_that_cannot_be_read_may_be_one_that_is_left() {
        for closed in ["u/memory.max/x", "u/session/memory.max/x"] {
            let files = [
                ("u/session/memory.high", "max\n"),
                ("u/manager/memory.max", "max\n"),
                (closed, ""),
            ];
            let said = escape(&files, "/u/session", "/u/manager").unwrap_or_default();
            assert!(said.starts_with("might leave a limit of memory"), "{said}");
        }
        let files = [
            ("u/session/memory.max", "40\n"),
            ("u/manager/memory.max/x", ""),
        ];
        let said = escape(&files, "/u/session", "/u/manager").unwrap_or_default();
        assert!(said.starts_with("might leave a limit of memory"), "{said}");
    }

    #[test]
    fn the_usual_limit_of_tasks_is_no_escape() {
        let files = |tasks| [("a/pids.max", tasks), ("b/pids.max", "max")];
        assert_eq!(escape(&files("500"), "/a", "/b"), None);
        assert!(escape(&files("499"), "/a", "/b").is_some());
    }
}
