//! Parses an OCI bundle's `config.json`: the container's cgroup, its annotations, its root file system and its limits.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use agent_model::labels::{LabelPatterns, PodName};
use agent_registry::claim::Named;
use oci_spec::runtime::LinuxResources;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The annotations that name the image: CRI-O's, and containerd's for containers and for pods' sandboxes.
const IMAGE: [&str; 4] = [
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.cri-o.Image",
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri.podsandbox.image-name",
];

/// nerdctl's annotation for the container's name.
const NAME: &str = "nerdctl/name";

/// CRI-O's annotation with all labels, as a JSON object.
const LABELS: &str = "io.kubernetes.cri-o.Labels";

/// A `config.json`. Limits are parsed only where they are asked for.
#[derive(Debug, Deserialize)]
pub(super) struct OciBundle {
    annotations: Option<HashMap<String, String>>,
    root: Option<Root>,
    linux: Option<Linux>,
}

#[derive(Debug, Deserialize)]
struct Root {
    path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Linux {
    #[serde(rename = "cgroupsPath")]
    cgroups_path: Option<String>,
    resources: Option<Box<RawValue>>,
}

impl OciBundle {
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The container's cgroup.
    pub(super) fn cgroups_path(&self) -> Option<&str> {
        self.linux.as_ref()?.cgroups_path.as_deref()
    }

    /// The directory of the root file system; `None` if its path is relative to the bundle.
    pub(super) fn root(&self) -> Option<&Path> {
        let path = self.root.as_ref()?.path.as_deref();
        path.filter(|path| path.is_absolute())
    }

    /// The limits that the container's maker asked for.
    pub(super) fn resources(&self) -> Option<LinuxResources> {
        let resources = self.linux.as_ref()?.resources.as_deref()?;
        serde_json::from_str(resources.get()).ok()
    }

    /// The name, image, labels and pod in the annotations.
    pub(super) fn named(&self, labels: &LabelPatterns) -> Named {
        let pod = PodName::of(|name| self.annotation(name));
        let name = self.annotation(NAME).map(str::to_owned);
        let mut images = IMAGE.iter().filter_map(|name| self.annotation(name));
        let all: Option<HashMap<String, String>> = self
            .annotation(LABELS)
            .and_then(|json| serde_json::from_str(json).ok());
        let all = all.unwrap_or_default();
        Named {
            name: name
                .or(pod.as_ref().map(PodName::in_one))
                .unwrap_or_default(),
            image: images.next().unwrap_or_default().to_owned(),
            labels: labels.select(all.iter().map(|(name, value)| (&**name, &**value))),
            pod,
            ..Named::default()
        }
    }

    /// The value of an annotation that is not empty.
    fn annotation(&self, name: &str) -> Option<&str> {
        let value = self.annotations.as_ref()?.get(name)?;
        Some(&**value).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(annotations: &str) -> Named {
        let json = format!(r#"{{"annotations":{annotations}}}"#);
        let bundle = OciBundle::parse(json.as_bytes()).unwrap();
        bundle.named(&LabelPatterns::all())
    }

    #[test]
    fn containerds_annotations() {
        // containerd 1.6's and 2.0's internal/cri/annotations.
        let container = named(
            r#"{"io.kubernetes.cri.container-name":"nginx","io.kubernetes.cri.container-type":"container",
            "io.kubernetes.cri.image-name":"docker.io/library/nginx:1.27","io.kubernetes.cri.sandbox-id":"ab12",
            "io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"prod",
            "io.kubernetes.cri.sandbox-uid":"0b1e2f31-6d07-4d5c-9d61-1a6e2b5a1c11"}"#,
        );
        assert_eq!(container.name, "web-0/nginx");
        assert_eq!(container.image, "docker.io/library/nginx:1.27");
        let pod = container.pod.unwrap();
        assert_eq!(
            [pod.namespace, pod.pod, pod.container],
            ["prod", "web-0", "nginx"]
        );
        let sandbox = named(
            r#"{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"web-0",
            "io.kubernetes.cri.podsandbox.image-name":"registry.k8s.io/pause:3.9",
            "io.kubernetes.cri.sandbox-namespace":"prod"}"#,
        );
        assert_eq!(
            (&*sandbox.name, &*sandbox.image),
            ("web-0", "registry.k8s.io/pause:3.9")
        );
    }

    #[test]
    fn crios_annotations() {
        // CRI-O 1.31's internal/factory/container: its labels are annotations too.
        let container = named(
            r#"{"io.kubernetes.container.name":"nginx","io.kubernetes.pod.name":"web-0",
            "io.kubernetes.pod.namespace":"prod","io.kubernetes.cri-o.Image":"sha256:aa",
            "io.kubernetes.cri-o.ImageName":"docker.io/library/nginx:1.27",
            "io.kubernetes.cri.sandbox-name":"forged-by-the-pod",
            "io.kubernetes.cri-o.Labels":"{\"app\":\"web\",\"io.kubernetes.pod.name\":\"web-0\"}"}"#,
        );
        assert_eq!(container.name, "web-0/nginx");
        assert_eq!(container.image, "docker.io/library/nginx:1.27");
        let labels: Vec<_> = container.labels.iter().collect();
        assert_eq!(
            labels,
            [("app", "web"), ("io.kubernetes.pod.name", "web-0")]
        );
    }

    #[test]
    fn other_annotations_name_nothing() {
        for annotations in [
            "null",
            "{}",
            r#"{"io.container.manager":"libpod"}"#,
            r#"{"io.kubernetes.cri-o.Labels":"{"}"#,
            r#"{"io.kubernetes.cri-o.Labels":"[1]","nerdctl/name":""}"#,
        ] {
            assert_eq!(named(annotations), Named::default(), "{annotations}");
        }
        assert_eq!(named(r#"{"nerdctl/name":"web"}"#).name, "web");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]{}\":,a-z0-9]{0,40}") {
            if let Some(bundle) = OciBundle::parse(text.as_bytes()) {
                bundle.named(&LabelPatterns::all());
                bundle.resources();
            }
        }
    }
}
