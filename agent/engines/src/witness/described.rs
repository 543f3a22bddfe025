//! Adds to a confirmation what the container's maker left on disk: its name, image, labels, pod and intended limits.

use agent_model::limit::Intent;
use agent_model::text;
use agent_registry::claim::{Confirmation, Named};
use agent_registry::path::Runtime;
use std::sync::Arc;

use super::bundle::Bundle;
use super::evidence::{About, RecordContents};
use super::stored::{EngineDirectory, StoredContainer};
use super::{Intents, Records};
use crate::intent;

impl Records {
    /// Adds what the record of `user` that confirmed a container of `runtime` has about it.
    pub(super) fn described(
        &self,
        confirmation: Confirmation,
        runtime: Runtime,
        record: &RecordContents,
        user: u32,
    ) -> Confirmation {
        let (named, intended) = match &record.about {
            About::Nothing => return confirmation,
            About::Root(root) => (of_root(root), None),
            About::Lxc(config) => {
                let read = self.intents == Intents::Read;
                let intended = read.then(|| intent::of_lxc(config, &self.hierarchies));
                (of_root(&intent::lxc_root(config)), intended)
            }
            About::Bundle(bundle) => {
                let stored = self.stored(&confirmation.id, runtime, bundle, user);
                let stored = stored.unwrap_or_default();
                let intended = match self.intents {
                    Intents::Read => intended(&confirmation.id, bundle, &stored),
                    Intents::Leave => None,
                };
                let mut named = stored.named.or(bundle.named(&self.labels));
                if named.name.is_empty() {
                    let name = record.name_of_monitor(&self.root, &confirmation.id);
                    named.name = name.unwrap_or_default();
                }
                (named, intended)
            }
        };
        Confirmation {
            named: Some(named),
            intended: intended.map(Arc::new),
            ..confirmation
        }
    }

    /// What docker or podman stores about the container. An engine that leaves no name in the cgroup's path may be
    /// docker.
    fn stored(
        &self,
        id: &str,
        runtime: Runtime,
        bundle: &Bundle,
        user: u32,
    ) -> Option<StoredContainer> {
        let directory = EngineDirectory::of(&self.root, bundle.root()?, user)?;
        match runtime {
            Runtime::Docker | Runtime::Cri => directory.docker(id, &self.labels),
            Runtime::Podman => directory.podman(id, &self.podman),
            Runtime::Unknown => {
                let docker = directory.docker(id, &self.labels);
                docker.or_else(|| directory.podman(id, &self.podman))
            }
            _ => None,
        }
    }
}

/// A container whose image is the directory or file of its root file system.
fn of_root(root: &str) -> Named {
    Named {
        image: root.to_owned(),
        ..Named::default()
    }
}

/// The limits that docker's user asked for, else those of the bundle. A value that is no limit makes all unknown.
fn intended(id: &str, bundle: &Bundle, stored: &StoredContainer) -> Option<Intent> {
    let intended = match &stored.config {
        Some(config) => intent::of_config(id, config),
        None => intent::of_resources(id, &bundle.resources()?),
    };
    let intended = intended.inspect_err(|error| tracing::debug!("{}", text::error_line(error)));
    intended.ok()
}
