//! Writes Prometheus' text exposition format, version 0.0.4, in chunks.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::mem;
use std::time::Duration;

use agent_model::labels::{ContainerLabels, PodName};

use super::catalogue::Metric;

/// The media type of the format, for the header `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A chunk is complete once it has this many bytes. The last sample may make it longer.
pub const CHUNK_BYTES: usize = 64 << 10;

/// The spare capacity of a chunk for its last sample, so that most chunks are not reallocated.
const SPARE_BYTES: usize = 4 << 10;

/// The labels of a cgroup as text, which is made once for all of its series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(Box<str>);

impl Labels {
    /// The names of the labels, in order. They are the last labels of a [`Metric`].
    pub const NAMES: [&'static str; 3] = ["id", "image", "name"];

    /// The labels that a container in a Kubernetes pod has as well.
    pub const OF_POD: [&'static str; 3] = ["namespace", "pod", "container"];

    /// The label that the own cgroup of a unit of systemd has as well: the unit's name.
    pub const UNIT: &'static str = "unit";

    /// The beginning of the labels for a container's labels.
    pub const PREFIX: &'static str = "container_label_";

    /// Formats the labels. `id` is the cgroup's path. `image` and `name` are empty for a cgroup that is not a
    /// container's.
    pub fn new(id: &str, image: &str, name: &str) -> Self {
        let mut text = String::new();
        for (label, value) in Self::NAMES.iter().zip([id, image, name]) {
            push_label(&mut text, label, value);
        }
        Self(text.into())
    }

    /// Adds the names that Kubernetes has for the container, as the kubelet does. An empty one is left out.
    #[must_use]
    pub fn in_pod(self, pod: &PodName) -> Self {
        let mut text = String::from(self.0);
        let values = [&pod.namespace, &pod.pod, &pod.container];
        for (label, value) in Self::OF_POD.iter().zip(values) {
            if !value.is_empty() {
                push_label(&mut text, label, value);
            }
        }
        Self(text.into())
    }

    /// Adds the name of the unit whose own cgroup it is.
    #[must_use]
    pub fn of_unit(self, name: &str) -> Self {
        let mut text = String::from(self.0);
        push_label(&mut text, Self::UNIT, name);
        Self(text.into())
    }

    /// Adds the labels of the container. Of labels with the same name in metrics, the first one is added. Returns how
    /// many labels of the container are missing.
    pub fn with(self, labels: &ContainerLabels) -> (Self, u64) {
        let mut text = String::from(self.0);
        let mut missing = u64::from(labels.left_out());
        let mut names = HashSet::new();
        for (name, value) in labels.iter() {
            let name = metric_label(name);
            if names.contains(&name) {
                missing += 1;
                continue;
            }
            push_label(&mut text, &name, value);
            names.insert(name);
        }
        (Self(text.into()), missing)
    }
}

/// The label of metrics for a container's label, as in cAdvisor.
fn metric_label(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().fold(Labels::PREFIX.to_owned(), |mut text, c| {
        text.push(allowed(c));
        text
    })
}

/// A sample's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    /// Nanoseconds, which are written as seconds. Other units use it for billionths as well.
    Seconds(u64),
    /// -1: no limit.
    MinusOne,
}

impl From<Duration> for Value {
    fn from(time: Duration) -> Self {
        Self::Seconds(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The bytes of the longest number, with the decimal point.
const NUMBER_BYTES: usize = 21;

impl Value {
    /// Appends the exact value, with no more digits than needed. It does not use `format!`, because a scrape has tens
    /// of thousands of values.
    fn push_to(self, text: &mut String) {
        let (number, mut decimals) = match self {
            Self::MinusOne => {
                text.push_str("-1");
                return;
            }
            Self::Number(number) => (number, 0),
            Self::Seconds(0) => (0, 0),
            Self::Seconds(nanoseconds) => (nanoseconds, 9),
        };
        let mut rest = number;
        while decimals > 0 && rest.is_multiple_of(10) {
            rest /= 10;
            decimals -= 1;
        }
        let mut digits = [0; NUMBER_BYTES];
        let mut at = NUMBER_BYTES;
        let mut written = 0;
        // A whole part of 0 is written as well.
        while rest > 0 || written <= decimals {
            if written == decimals && decimals > 0 {
                at -= 1;
                digits[at] = b'.';
            }
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            written += 1;
        }
        text.push_str(str::from_utf8(&digits[at..]).unwrap_or_default());
    }
}

/// Writes families one after the other, in chunks of whole samples.
#[derive(Debug, Default)]
pub struct Writer {
    /// The chunks, of which all but the last are complete.
    chunks: Vec<String>,
}

impl Writer {
    /// Begins a family. The format allows each family only once.
    pub fn family(&mut self, metric: &'static Metric) -> Family<'_> {
        let Metric {
            name, help, kind, ..
        } = metric;
        // Writing to a String cannot fail.
        let _ = writeln!(self.chunk(), "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family {
            writer: self,
            metric,
        }
    }

    /// Tells whether there is a complete chunk.
    pub fn has_chunk(&self) -> bool {
        self.chunks
            .first()
            .is_some_and(|chunk| chunk.len() >= CHUNK_BYTES)
    }

    /// Returns the chunks that were written since the last call.
    pub fn take(&mut self) -> Vec<String> {
        mem::take(&mut self.chunks)
    }

    /// Returns the chunk that is being written.
    fn chunk(&mut self) -> &mut String {
        let is_full = |chunk: &String| chunk.len() >= CHUNK_BYTES;
        if self.chunks.last().is_none_or(is_full) {
            // After a complete chunk, another one of the same size is likely.
            let bytes = if self.chunks.is_empty() {
                0
            } else {
                CHUNK_BYTES + SPARE_BYTES
            };
            self.chunks.push(String::with_capacity(bytes));
        }
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }
}

/// A family being written.
pub struct Family<'a> {
    writer: &'a mut Writer,
    metric: &'static Metric,
}

impl Family<'_> {
    /// Writes a sample. `own` has the values of the labels that are not a cgroup's. `cgroup` has the labels of the
    /// cgroup, where the family has them.
    pub fn sample(&mut self, own: &[&str], cgroup: Option<&Labels>, value: Value) {
        let cgroup_names = cgroup.map_or(0, |_| Labels::NAMES.len());
        debug_assert_eq!(own.len() + cgroup_names, self.metric.labels.len());
        let text = self.writer.chunk();
        text.push_str(self.metric.name);
        if !self.metric.labels.is_empty() {
            text.push('{');
            for (label, value) in self.metric.labels.iter().zip(own) {
                push_label(text, label, value);
            }
            if let Some(Labels(labels)) = cgroup {
                text.push_str(labels);
            }
            // A comma follows each label, so the last one is removed.
            text.pop();
            text.push('}');
        }
        text.push(' ');
        value.push_to(text);
        text.push('\n');
    }
}

/// Appends `LABEL="VALUE",`. The format escapes three characters and takes all others as they are.
fn push_label(text: &mut String, label: &str, value: &str) {
    text.push_str(label);
    text.push_str("=\"");
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        text.push_str(&rest[..at]);
        text.push_str(match rest.as_bytes()[at] {
            b'\\' => r"\\",
            b'"' => "\\\"",
            _ => r"\n",
        });
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
    text.push_str("\",");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::CPU_USAGE;
    use crate::catalogue::MEMORY_USAGE;
    use crate::catalogue::WATCHERS;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<String> {
        let mut writer = Writer::default();
        write(&mut writer);
        writer.take()
    }

    #[test]
    fn families() {
        let chunks = written(|out| {
            let mut family = out.family(&CPU_USAGE);
            let labels = Labels::new("/a", "busybox", "b\"\\\n\0");
            family.sample(
                &["total"],
                Some(&labels),
                Duration::from_millis(1500).into(),
            );
            out.family(&WATCHERS)
                .sample(&[], None, Value::Number(u64::MAX));
        });
        let wanted = "\
# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed in seconds.
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{cpu=\"total\",id=\"/a\",image=\"busybox\",name=\"b\\\"\\\\\\n\0\"} 1.5
# HELP agent_watchers Streams of events being served.
# TYPE agent_watchers gauge
agent_watchers 18446744073709551615
";
        assert_eq!(chunks, [wanted]);
    }

    #[test]
    fn labels_of_a_container_come_after_its_names() {
        use agent_model::labels::LabelPatterns;

        let pod = PodName {
            namespace: "prod".to_owned(),
            pod: "web-0".to_owned(),
            container: String::new(),
        };
        let all = [("a.b", "1\""), ("a-b", "2"), ("a_b", "3"), ("ä", "4")];
        let labels = LabelPatterns::all().select(all);
        let (labels, missing) = Labels::new("/a", "i", "n").in_pod(&pod).with(&labels);
        let wanted = concat!(
            r#"id="/a",image="i",name="n",namespace="prod",pod="web-0","#,
            r#"container_label_a_b="2",container_label__="4","#
        );
        assert_eq!((&*labels.0, missing), (wanted, 2));
    }

    #[test]
    fn no_family_has_a_label_twice() {
        for Metric { name, labels, .. } in crate::catalogue::all() {
            let Some(own) = labels.strip_suffix(&Labels::NAMES) else {
                continue;
            };
            let is_taken =
                |label| Labels::OF_POD.contains(label) || label.starts_with(Labels::PREFIX);
            assert!(!own.iter().any(is_taken), "{name}: {own:?}");
        }
    }

    #[test]
    fn values() {
        for (nanoseconds, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (10_000_000, "0.01"),
            (1_050_000_000, "1.05"),
            (1_000_000_000, "1"),
            (287_576_612_190, "287.57661219"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            let mut written = String::new();
            Value::Seconds(nanoseconds).push_to(&mut written);
            assert_eq!(written, text);
        }
    }

    #[test]
    fn chunks_are_of_whole_samples() {
        let samples = 5000;
        let chunks = written(|out| {
            let mut family = out.family(&MEMORY_USAGE);
            for number in 0..samples {
                let labels = Labels::new(&format!("/{number}"), "", "");
                family.sample(&[], Some(&labels), Value::Number(number));
            }
        });
        let longest = chunks.iter().map(String::len).max().unwrap();
        assert!(chunks.len() > 4 && longest < CHUNK_BYTES + 100, "{longest}");
        assert!(chunks.iter().all(|chunk| chunk.ends_with('\n')));
        let text = chunks.concat();
        assert_eq!(text.lines().count() as u64, samples + 2);
        assert_eq!(
            text.lines().next_back().unwrap().split(' ').next_back(),
            Some("4999")
        );
    }

    /// The values of the labels of a sample, as the format's description has them.
    fn parse_labels(sample: &str) -> Vec<(String, String)> {
        let mut labels = Vec::new();
        let mut rest = &sample[sample.find('{').unwrap() + 1..];
        while let Some((name, after)) = rest.split_once("=\"") {
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        other => panic!("\\{other} is no escape"),
                    }),
                    (_, '\n') => panic!("a newline in a value"),
                    (_, char) => value.push(char),
                }
            };
            labels.push((name.to_owned(), value));
            rest = after[end + 1..].trim_start_matches(',');
        }
        assert_eq!(rest, "} 7\n");
        labels
    }

    proptest! {
        #[test]
        fn labels_come_back(
            id in "([\\\\\"\n\0-\u{1f}=,{}n é𝕏]|.){0,12}",
            image in "[\\\\\"\n\r\t]{0,6}",
            name in ".{0,12}",
        ) {
            let labels = Labels::new(&id, &image, &name);
            let chunks = written(|out| {
                out.family(&MEMORY_USAGE).sample(&[], Some(&labels), Value::Number(7));
            });
            let text = chunks.concat();
            let sample = text.splitn(3, '\n').nth(2).unwrap();
            let wanted = [("id", id), ("image", image), ("name", name)];
            let wanted = wanted.map(|(label, value)| (label.to_owned(), value));
            prop_assert_eq!(parse_labels(sample), wanted);
        }
    }
}
