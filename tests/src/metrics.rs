//! The answer to a scrape, in the text format of Prometheus.

use std::collections::BTreeMap;

/// All samples of a scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Metrics {
    /// # Panics
    /// On a line that is neither a comment nor a sample.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines
            .map(|line| sample(line).unwrap_or_else(|| panic!("this is no sample: {line:?}")))
            .collect();
        Self {
            samples,
            text: text.to_owned(),
        }
    }

    /// All samples.
    #[must_use]
    pub fn into_samples(self) -> Vec<Sample> {
        self.samples
    }

    /// All samples, in their order.
    pub fn all(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// The text that was parsed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The samples of this name that have these labels, whatever else they have.
    pub fn samples<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a Sample> {
        let named = self.samples.iter().filter(move |it| it.name == name);
        named.filter(move |sample| {
            let has = |(label, value): &(&str, &str)| {
                sample.labels.get(*label).is_some_and(|it| it == value)
            };
            labels.iter().all(has)
        })
    }

    /// The value of the one sample with this name and these labels, if it is there.
    ///
    /// # Panics
    /// Where there are several.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut samples = self.samples(name, labels);
        let sample = samples.next()?;
        let second = samples.next();
        assert!(
            second.is_none(),
            "both are {name}{labels:?}: {sample:?}, {second:?}"
        );
        Some(sample.value)
    }

    /// The value of the one sample with this name and these labels.
    ///
    /// # Panics
    /// Where there is none, or several.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels)
            .unwrap_or_else(|| panic!("there is no {name}{labels:?}"))
    }

    /// Likewise, for what is counted.
    ///
    /// # Panics
    /// Where there is none, or several, or the value is no whole number.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let value = self.value(name, labels);
        assert!(
            value >= 0.0 && value.fract() == 0.0,
            "{name}{labels:?} is no count: {value}"
        );
        value as u64
    }

    /// What became of the events of `kind` at `stage`: `agent_events_total`.
    ///
    /// # Panics
    /// Where there is no such counter.
    pub fn events(&self, stage: &str, kind: &str, outcome: &str) -> u64 {
        let labels = [("stage", stage), ("kind", kind), ("outcome", outcome)];
        self.count("agent_events_total", &labels)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (key, value) = line.rsplit_once(' ')?;
    let (name, labels) = match key.split_once('{') {
        Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}')?)?),
        None => (key, BTreeMap::new()),
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

/// Reads `name="value",…`, where a value escapes backslash, quote and newline.
fn parse_labels(mut rest: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.chars();
        loop {
            match characters.next()? {
                '"' => break,
                '\\' => match characters.next()? {
                    'n' => value.push('\n'),
                    escaped => value.push(escaped),
                },
                other => value.push(other),
            }
        }
        labels.insert(name.to_owned(), value);
        rest = characters.as_str();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let metrics = Metrics::parse(
            "# HELP a b\n\
             # TYPE a counter\n\
             a{id=\"/x y\",name=\"say \\\"hi\\\"\\n\\\\ }\"} 3\n\
             a{id=\"/z\",name=\"\"} 4.5\n\
             b 1e3\n",
        );
        assert_eq!(metrics.count("a", &[("name", "say \"hi\"\n\\ }")]), 3);
        assert_eq!(metrics.value("a", &[("id", "/z"), ("name", "")]), 4.5);
        assert_eq!(metrics.count("b", &[]), 1000);
        assert_eq!(metrics.find("a", &[("id", "/")]), None);
        assert_eq!(metrics.samples("a", &[]).count(), 2);
    }

    #[test]
    #[should_panic(expected = "both are a")]
    fn a_value_of_two_samples_is_none() {
        Metrics::parse("a{x=\"1\"} 1\na{x=\"2\"} 2\n").value("a", &[]);
    }

    #[test]
    #[should_panic(expected = "this is no sample")]
    fn garbage_is_no_sample() {
        Metrics::parse("a{x=1} 1\n");
    }
}
