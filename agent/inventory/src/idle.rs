//! Containers that do not run and have no cgroup: those that engines have, and those whose state `agent run` keeps.

use std::collections::HashSet;
use std::path::Path;

use agent_model::container::{Container, ContainerKind};
use agent_model::labels::ContainerLabels;
use agent_registry::location::{UNKNOWN, short};
use agent_registry::path::Runtime;
use agent_registry::registry::Registry;
use agent_registry::registry::names::RunState;

use super::container_condition::ContainerCondition;
use super::containers::ContainerState;
use agent_engines::witness::own;

/// Returns the containers that an engine has, that do not run, and of which the registry remembers no cgroup.
pub fn of_engines(registry: &Registry) -> impl Iterator<Item = ContainerState> {
    let known = registry.without_cgroup().into_iter();
    known.map(|(id, named)| {
        let condition = match named.run {
            RunState::Never => ContainerCondition::Created,
            _ => ContainerCondition::Exited,
        };
        let or = |said: &str, otherwise: &str| match said {
            "" => otherwise.to_owned(),
            said => said.to_owned(),
        };
        let container = Container {
            kind: ContainerKind::Container,
            id: id.to_owned(),
            name: or(&named.name, short(id)),
            runtime: Runtime::Docker.name().to_owned(),
            image: or(&named.image, UNKNOWN),
            confirmed: Some(true),
            cgroup: String::new(),
            pod: named.pod.clone(),
            labels: named.labels.clone(),
        };
        ContainerState::new(container, condition)
    })
}

/// Adds the containers whose state `agent run` keeps and that `states` does not have yet.
pub fn add_kept(root: &Path, states: &mut Vec<ContainerState>) {
    let own = states.iter().map(|it| &it.container);
    let own = own.filter(|it| it.runtime == Runtime::Agent.name());
    let known: HashSet<(String, String)> =
        own.map(|it| (it.id.clone(), it.cgroup.clone())).collect();
    let kept = own::kept(root).into_iter().filter_map(|(record, _)| {
        let cgroup = record.cgroup.to_string_lossy().into_owned();
        let id = record.name.clone();
        let container = Container {
            kind: ContainerKind::Container,
            name: id.clone(),
            image: own::named(record).image,
            id,
            runtime: Runtime::Agent.name().to_owned(),
            confirmed: Some(true),
            cgroup,
            pod: None,
            labels: ContainerLabels::default(),
        };
        let is_known = known.contains(&(container.id.clone(), container.cgroup.clone()));
        (!is_known).then(|| ContainerState::new(container, ContainerCondition::Exited))
    });
    states.extend(kept);
}
