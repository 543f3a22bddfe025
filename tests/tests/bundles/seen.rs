//! What a container's command saw, by sections of lines, without what differs from one run to the next.

use std::collections::BTreeMap;
use std::fs;

use crate::differences::Rules;
use crate::run::Came;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<String, Vec<String>>);

/// A line of `/proc/self/mountinfo`, from the fourth field on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What of the file system is mounted.
    pub root: String,
    pub place: String,
    pub options: Vec<String>,
    /// Without the numbers of groups.
    pub propagation: Vec<String>,
    pub kind: String,
    pub source: String,
    /// Of the file system.
    pub settings: Vec<String>,
}

impl Seen {
    pub fn of(came: &Came, rules: Rules) -> Self {
        let mut seen = Self::default();
        let mut section = "output".to_owned();
        for line in came.output.lines() {
            if let Some(name) = line.strip_prefix("== ") {
                section = name.to_owned();
                continue;
            }
            let line = line
                .replace(&came.place, "BUNDLE")
                .replace(&came.name, "NAME");
            let line = match &*section {
                "mounts" => mount(&line, rules),
                "namespaces" => Some(namespace(&line)),
                "cgroups" => rules.cgroup(&line),
                "devices" | "limits" => rules.device(&line),
                _ => Some(line),
            };
            seen.0.entry(section.clone()).or_default().extend(line);
        }
        // The order in which things are mounted is each runtime's own, and so is that of processes.
        seen.0.entry("mounts".to_owned()).or_default().sort();
        seen
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn lines(&self, section: &str) -> &[String] {
        self.0.get(section).map_or(&[], Vec::as_slice)
    }
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = text.split(',').map(str::to_owned).collect();
    words.sort();
    words
}

fn mount(line: &str, rules: Rules) -> Option<String> {
    let Some((first, second)) = line.split_once(" - ") else {
        return Some(line.to_owned());
    };
    let mut first = first.split(' ');
    let mut second = second.split(' ');
    let mut next = || first.next().unwrap_or_default().to_owned();
    let (root, place, options) = (next(), next(), next());
    let propagation = first.map(|it| it.split(':').next().unwrap_or_default().to_owned());
    let mut last = || second.next().unwrap_or_default();
    let mut mount = Mount {
        root,
        place,
        options: words(&options),
        propagation: propagation.collect(),
        kind: last().to_owned(),
        source: last().to_owned(),
        settings: words(last()),
    };
    rules.mount(&mut mount).then(|| format!("{mount:?}"))
}

/// Whether it is the host's, or one of its own.
fn namespace(line: &str) -> String {
    let Some((path, name)) = line.split_once(' ') else {
        return line.to_owned();
    };
    let host = fs::read_link(path).map(|it| it.display().to_string());
    let whose = if host.is_ok_and(|host| host == name) {
        "the host's"
    } else {
        "its own"
    };
    format!("{path} {whose}")
}
