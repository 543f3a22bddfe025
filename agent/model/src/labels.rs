//! The labels of containers: which of them are kept, and the names that Kubernetes gives a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::text::cut;

/// The most labels of a container that are kept, and the most bytes of their names and values together.
const LABELS_AT_MOST: usize = 32;
const BYTES_AT_MOST: usize = 4096;

/// The patterns of the labels that are kept. A `*` in a pattern stands for any characters, also for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelPatterns(Vec<String>);

impl LabelPatterns {
    /// The labels of docker compose.
    pub const COMPOSE: &str = "com.docker.compose.*";

    /// The description of a unit of systemd.
    pub const DESCRIPTION: &str = "systemd.description";

    /// The patterns of the labels that are kept by default.
    pub const DEFAULT: [&str; 2] = [Self::COMPOSE, Self::DESCRIPTION];

    /// The word that stands for no label.
    pub const NONE: &str = "none";

    /// Patterns, or [`Self::NONE`].
    pub fn new(mut patterns: Vec<String>) -> Self {
        patterns.retain(|pattern| pattern != Self::NONE);
        Self(patterns)
    }

    /// Keeps all labels for which there is room.
    pub fn all() -> Self {
        Self(vec!["*".to_owned()])
    }

    fn allow(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| fits(pattern, name))
    }

    /// The labels that these patterns allow. Where there is no room for all, the first ones by name are kept.
    pub fn select<'a>(
        &self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> ContainerLabels {
        let labels = labels.into_iter().filter(|(name, _)| self.allow(name));
        let mut allowed: Vec<_> = labels.collect();
        allowed.sort_unstable();
        let mut selected = ContainerLabels::default();
        let mut bytes = 0;
        for (name, value) in allowed {
            let value = cut(value);
            let more = bytes + name.len() + value.len();
            if selected.kept.len() >= LABELS_AT_MOST || more > BYTES_AT_MOST {
                selected.left_out += 1;
                continue;
            }
            bytes = more;
            selected.kept.insert(name.to_owned(), value.to_owned());
        }
        selected
    }
}

impl Default for LabelPatterns {
    fn default() -> Self {
        Self(Self::DEFAULT.map(str::to_owned).to_vec())
    }
}

/// Whether `name` fits the pattern.
fn fits(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    let Some(mut rest) = rest.strip_suffix(last) else {
        return false;
    };
    pieces.all(|piece| {
        let found = rest.find(piece);
        found.is_some_and(|at| {
            rest = &rest[at + piece.len()..];
            true
        })
    })
}

/// The kept labels of a container, in the order of their names. Their number and size are bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerLabels {
    kept: BTreeMap<String, String>,
    #[serde(skip)]
    left_out: u32,
}

impl ContainerLabels {
    /// Whether no label is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let kept = self.kept.iter();
        kept.map(|(name, value)| (&**name, &**value))
    }

    /// How many allowed labels there was no room for.
    pub const fn left_out(&self) -> u32 {
        self.left_out
    }
}

/// The names that Kubernetes gives a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PodName {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod.
    pub pod: String,
    /// The name of the container in the pod; empty for the pod's sandbox.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
}

/// The kubelet's labels, and containerd's annotations, for each member of [`PodName`].
const NAMESPACE: [&str; 2] = [
    "io.kubernetes.pod.namespace",
    "io.kubernetes.cri.sandbox-namespace",
];
const POD: [&str; 2] = ["io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name"];
const CONTAINER: [&str; 2] = [
    "io.kubernetes.container.name",
    "io.kubernetes.cri.container-name",
];

impl PodName {
    /// Reads the names from a container's labels or annotations: `of` returns the value of one. `None` if they name no
    /// pod.
    ///
    /// The kubelet's labels come first: an engine that has them lets nobody overwrite them.
    pub fn of<'a>(of: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let first = |names: [&str; 2]| {
            let values = names.into_iter().filter_map(&of);
            let mut values = values.filter(|value| !value.is_empty());
            values.next().map(|value| cut(value).to_owned())
        };
        Some(Self {
            namespace: first(NAMESPACE).unwrap_or_default(),
            pod: first(POD)?,
            container: first(CONTAINER).unwrap_or_default(),
        })
    }

    /// The container's name among all of the host: `POD/CONTAINER`, or `POD` for the sandbox.
    pub fn in_one(&self) -> String {
        match &*self.container {
            "" => self.pod.clone(),
            container => format!("{}/{container}", self.pod),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, wanted) in [
            ("com.docker.compose.*", "com.docker.compose.service", true),
            ("com.docker.compose.*", "com.docker.compose.", true),
            ("com.docker.compose.*", "com.docker.compose", false),
            ("com.docker.compose.*", "a.com.docker.compose.b", false),
            ("team", "team", true),
            ("team", "teams", false),
            ("*", "", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("*.team", "org.team", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn only_allowed_labels_are_kept_and_few() {
        let labels = [("b", "2"), ("a", "1"), ("c", "3")];
        let of = |patterns: &[&str]| {
            let patterns = patterns.iter().map(|it| (*it).to_owned()).collect();
            let selected = LabelPatterns::new(patterns).select(labels);
            let kept = selected
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            kept.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&["a", "c"]), "a=1 c=3");
        assert_eq!(of(&["none"]), "");
        assert_eq!(of(&["*"]), "a=1 b=2 c=3");
        let many: Vec<String> = (0..100).map(|it| format!("label{it:03}")).collect();
        let many = many.iter().map(|name| (&**name, "value"));
        let selected = LabelPatterns::all().select(many);
        assert_eq!(selected.iter().count(), LABELS_AT_MOST);
        assert_eq!(selected.left_out() as usize, 100 - LABELS_AT_MOST);
    }

    #[test]
    fn json_is_a_map() {
        let labels = LabelPatterns::all().select([("a", "1")]);
        let json = serde_json::to_string(&labels).unwrap();
        assert_eq!(json, r#"{"a":"1"}"#);
        assert_eq!(
            serde_json::from_str::<ContainerLabels>(&json).unwrap(),
            labels
        );
    }

    #[test]
    fn pods_are_named_by_the_kubelet_first() {
        let of = |all: &'static [(&str, &str)]| {
            PodName::of(|name| all.iter().find(|(key, _)| *key == name).map(|(_, it)| *it))
        };
        assert_eq!(of(&[("io.kubernetes.container.name", "web")]), None);
        let sandbox = of(&[
            ("io.kubernetes.cri.sandbox-name", "web-0"),
            ("io.kubernetes.cri.sandbox-namespace", "prod"),
        ]);
        let sandbox = sandbox.unwrap();
        assert_eq!((&*sandbox.namespace, &*sandbox.in_one()), ("prod", "web-0"));
        let container = of(&[
            ("io.kubernetes.pod.name", "web-0"),
            ("io.kubernetes.cri.sandbox-name", "forged"),
            ("io.kubernetes.container.name", "nginx"),
        ]);
        assert_eq!(container.unwrap().in_one(), "web-0/nginx");
    }

    proptest! {
        #[test]
        fn what_is_kept_is_bounded(
            labels in prop::collection::vec((".{0,40}", ".{0,1500}"), 0..60),
            pattern in "[a*]{0,6}",
        ) {
            let all = labels.iter().map(|(name, value)| (&**name, &**value));
            let selected = LabelPatterns::new(vec![pattern]).select(all);
            let bytes: usize = selected.iter().map(|(name, value)| name.len() + value.len()).sum();
            prop_assert!(bytes <= BYTES_AT_MOST);
            prop_assert!(selected.iter().count() <= LABELS_AT_MOST);
        }
    }
}
