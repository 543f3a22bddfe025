//! Adds to a confirmation what the container's maker left on disk: its name, image, labels, pod and intended limits.

use std::sync::Arc;

use agent_model::limit::Intent;
use agent_model::text;
use agent_registry::claim::{Confirmation, Named};
use agent_registry::path::Runtime;

use super::bundle::OciBundle;
use super::evidence::{About, MonitorArguments, RecordContents};
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
                let id = &*confirmation.id;
                let monitor = record.monitor(&self.root, id);
                let stored = self.stored(id, runtime, bundle, monitor.as_ref(), user);
                let stored = stored.unwrap_or_default();
                let intended = match self.intents {
                    Intents::Read => intended(id, bundle, &stored),
                    Intents::Leave => None,
                };
                let mut named = stored.named.or(bundle.named(&self.labels));
                if named.name.is_empty() {
                    let name = monitor.as_ref().and_then(MonitorArguments::name);
                    named.name = name.unwrap_or_default().to_owned();
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
    /// either.
    fn stored(
        &self,
        id: &str,
        runtime: Runtime,
        bundle: &OciBundle,
        monitor: Option<&MonitorArguments>,
        user: u32,
    ) -> Option<StoredContainer> {
        let above_root = bundle.root();
        let above_root = above_root.and_then(|root| EngineDirectory::of(&self.root, root, user));
        let named = monitor.and_then(MonitorArguments::directory);
        let named = named.and_then(|path| EngineDirectory::at(&self.root, path, user));
        let mut directories = above_root.into_iter().chain(named);
        let docker = |it: &EngineDirectory| it.docker(id, &self.labels);
        let podman = |it: &EngineDirectory| {
            let row = it.podman_row(id, &self.labels);
            row.or_else(|| it.podman_entry(id, &self.podman))
        };
        directories.find_map(|it| match runtime {
            Runtime::Docker | Runtime::Cri => docker(&it),
            Runtime::Podman => podman(&it),
            Runtime::Unknown => docker(&it).or_else(|| podman(&it)),
            _ => None,
        })
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
fn intended(id: &str, bundle: &OciBundle, stored: &StoredContainer) -> Option<Intent> {
    let intended = match &stored.config {
        Some(config) => intent::of_config(id, config),
        None => intent::of_resources(id, &bundle.resources()?),
    };
    let intended = intended.inspect_err(|error| tracing::debug!("{}", text::error_line(error)));
    intended.ok()
}
