//! Whether a process that moves to another cgroup of v2 leaves a limit behind.

use std::fmt;

use crate::host::cgroup::Limit;
use crate::host::control::Control;
use crate::host::hierarchy::{Hierarchies, Mounted, Version};
use crate::host::path::with_parents;
use crate::limit::{Form, Held, Kind, TABLE};

/// A limit that would hold no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escape {
    pub file: &'static str,
    pub text: String,
    pub cgroup: String,
}

/// The first limit of the cgroup `own`, or of one above it, that is tighter than what holds in `target`. `most_tasks` is
/// the limit of tasks that the new cgroup itself will have.
pub fn find(
    hierarchies: &Hierarchies,
    v2: &Mounted,
    own: &str,
    target: &str,
    most_tasks: impl Fn() -> Option<u64>,
) -> Option<Escape> {
    let open = |path: &str| {
        let directory = hierarchies.directory(v2, path)?.path;
        Control::open(Version::V2, &directory).ok()
    };
    let chain = |path: &str| -> Vec<(String, Control)> {
        let paths = with_parents(path).map(std::borrow::Cow::into_owned);
        paths
            .filter_map(|path| Some((path.clone(), open(&path)?)))
            .collect()
    };
    let theirs = chain(target);
    let shared = |path: &String| theirs.iter().any(|(other, _)| other == path);
    let mut own = chain(own);
    own.retain(|(path, _)| !shared(path));
    // A weight counts among siblings only, and memory.low protects.
    let limits = TABLE
        .iter()
        .filter(|row| !matches!(row.kind, Kind::CpuWeight | Kind::MemoryReservation));
    let limits = limits.flat_map(|row| row.v2.iter().map(move |file| (row.kind, *file)));
    for (kind, file) in limits {
        let read = |control: &Control| {
            let text = control.read(file.name).ok()?;
            let held = match file.form {
                // Of whatever device: a limit that the target cannot be compared with.
                Form::DeviceKey(_) => Held::Amount(rate(&text)),
                form => form.read(&text, None)?,
            };
            (!held.is_none()).then_some((held, text.trim().to_owned()))
        };
        let in_target = theirs.iter().filter_map(|(_, control)| read(control));
        let mut there = match file.form {
            Form::DeviceKey(_) => None,
            _ => in_target.map(|(held, _)| held).reduce(Held::tighter),
        };
        for (cgroup, control) in &own {
            let Some((held, text)) = read(control) else {
                continue;
            };
            let holds = |there: &Option<Held>| {
                let same = |it: &Held| it.clone().tighter(held.clone()) == *it;
                there.as_ref().is_some_and(same)
            };
            if !holds(&there) && kind == Kind::Pids {
                let usual = most_tasks().map(|most| Held::Amount(Limit::Value(most)));
                there = there.into_iter().chain(usual).reduce(Held::tighter);
            }
            if !holds(&there) {
                let cgroup = cgroup.clone();
                let file = file.name;
                return Some(Escape { file, text, cgroup });
            }
        }
    }
    None
}

/// Whether any device is limited.
fn rate(text: &str) -> Limit {
    let mut words = text
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    if words.any(|(_, value)| value != "max") {
        Limit::Value(0)
    } else {
        Limit::Max
    }
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, text, cgroup } = self;
        write!(f, "the limit {file} {text} of {cgroup}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::tree;

    const MOUNTINFO: &str = "31 27 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    fn escape(files: &[(&str, &str)], own: &str, target: &str) -> Option<String> {
        let mut all = vec![
            ("proc/self/mountinfo", MOUNTINFO),
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/cgroup.controllers", "memory\n"),
        ];
        let named: Vec<_> = files
            .iter()
            .map(|(path, text)| (format!("sys/fs/cgroup/{path}"), *text))
            .collect();
        all.extend(named.iter().map(|(path, text)| (&**path, *text)));
        let root = tree(&all);
        let hierarchies = Hierarchies::discover(root.path()).unwrap();
        let v2 = hierarchies.by_id(0).unwrap();
        find(&hierarchies, v2, own, target, || Some(500)).map(|found| found.to_string())
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
            Some("the limit memory.max 40 of /u/session")
        );
        // One that does not change what holds is none.
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

    #[test]
    fn the_usual_limit_of_tasks_is_no_escape() {
        let files = |tasks| [("a/pids.max", tasks), ("b/pids.max", "max")];
        assert_eq!(escape(&files("500"), "/a", "/b"), None);
        assert!(escape(&files("499"), "/a", "/b").is_some());
    }
}
