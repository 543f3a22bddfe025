//! The table of all metrics of the agent. A metric that cAdvisor exports too has cAdvisor's name, type, labels and help
//! text, so that dashboards and alerts for cAdvisor work. `METRICS.md` is generated from this table.

mod cadvisor;
#[cfg(test)]
mod document;
mod own;

use std::fmt;

pub use cadvisor::*;
pub use own::*;

use super::groups::MetricGroup;

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that starts at 0 and only grows.
    Counter,
    Gauge,
}

impl fmt::Display for Kind {
    /// Writes the name of the type in the text format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        })
    }
}

/// A metric: the name, type and labels of a family of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    /// The help text. It has no backslashes and newlines, which the text format would escape.
    pub help: &'static str,
    pub kind: Kind,
    /// The names of the labels. The labels of a cgroup come last, in the order of [`Labels`](super::text::Labels).
    pub labels: &'static [&'static str],
    /// The group that switches the metric.
    pub group: MetricGroup,
}

impl Metric {
    /// Returns the options of the metric for the prometheus crate.
    pub fn opts(&self) -> prometheus::Opts {
        prometheus::Opts::new(self.name, self.help)
    }
}

macro_rules! catalogue {
    ($all:ident: $($group:ident {
        $($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*
    })*) => {
        $($(pub const $constant: Metric = Metric {
            name: $name,
            help: $help,
            kind: Kind::$kind,
            labels: &[$($label),*],
            group: MetricGroup::$group,
        };)*)*

        /// All of these metrics.
        pub(super) const $all: &[Metric] = &[$($($constant),*),*];
    };
}
use catalogue;

/// Returns all metrics.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    cadvisor::OF_CADVISOR.iter().chain(own::OWN)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;
    use std::{env, fs};

    use super::document::markdown;
    use super::*;

    const CADVISOR: &str = include_str!("../../../tests/fixtures/cadvisor-0.51-families.tsv");

    #[test]
    fn what_cadvisor_has_is_as_there() {
        let mut theirs = BTreeMap::new();
        for line in CADVISOR.lines() {
            let fields: Vec<_> = line.split('\t').collect();
            let [name, kind, labels, _series, help] = fields[..] else {
                panic!("{line}");
            };
            theirs.insert(name, (kind, labels, help));
        }
        let mut shared = 0;
        for metric in all() {
            if let Some(&theirs) = theirs.get(metric.name) {
                let mut labels = metric.labels.to_vec();
                labels.sort_unstable();
                let (kind, labels) = (metric.kind.to_string(), labels.join(","));
                assert_eq!((&*kind, &*labels, metric.help), theirs, "{}", metric.name);
                shared += 1;
            }
        }
        let ours: BTreeSet<_> = all().map(|metric| metric.name).collect();
        let missing: Vec<_> = theirs.keys().filter(|name| !ours.contains(*name)).collect();
        assert_eq!(
            missing,
            [
                &"machine_nvm_avg_power_budget_watts",
                &"machine_nvm_capacity"
            ]
        );
        assert_eq!(shared, 57);
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let names: BTreeSet<_> = all().map(|metric| metric.name).collect();
        assert_eq!(names.len(), all().count(), "a name is there twice");
        for Metric {
            name,
            help,
            kind,
            labels,
            group,
        } in all()
        {
            let is_word = |word: &str| {
                !word.is_empty()
                    && word
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            };
            assert!(is_word(name), "{name}");
            assert!(
                labels.iter().all(|label| is_word(label)),
                "{name}: {labels:?}"
            );
            // What cAdvisor names otherwise.
            let is_named_otherwise = *name == MEMORY_FAILCNT.name
                || *name == FS_INODES_TOTAL.name
                || [MetricGroup::Tcp, MetricGroup::Udp].contains(group);
            let counted = name.ends_with("_total") != is_named_otherwise;
            assert_eq!(counted, *kind == Kind::Counter, "{name}");
            assert!(
                ["container_", "machine_", "agent_", "process_", "cadvisor_"]
                    .iter()
                    .any(|room| name.starts_with(room)),
                "{name}"
            );
            assert!(
                !help.is_empty() && !help.contains(['\\', '\n', '|']),
                "{name}"
            );
        }
    }

    #[test]
    fn the_document_is_up_to_date() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .unwrap();
        let path = workspace.join("METRICS.md");
        if env::var_os("UPDATE_METRICS").is_some() {
            fs::write(&path, markdown()).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        let hint = "run `UPDATE_METRICS=1 cargo test -p agent-metrics catalogue`";
        assert!(
            found == markdown(),
            "METRICS.md is not what the catalogue gives: {hint}"
        );
    }
}
