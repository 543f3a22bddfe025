//! What systemd reports of its units: descriptions and intended limits.

use std::sync::Arc;

use agent_model::container::{Container, ContainerKind};
use agent_model::labels::ContainerLabels;
use agent_model::limit::Intent;

use super::Registry;
use crate::unit::Manager;

impl Registry {
    /// At most `most` units of the host's systemd that exist and of which systemd was not asked yet. Marks them as asked.
    pub fn new_units(&mut self, most: usize) -> Vec<Arc<Container>> {
        let cgroups = self.cgroups.values_mut();
        let new = cgroups.filter(|it| it.is_unit() && it.gone.is_none() && it.looks == 0);
        let of_host = new.filter(|it| Manager::of(&it.path) == Manager::System);
        let units = of_host.take(most).map(|cgroup| {
            cgroup.looks = 1;
            Arc::clone(&cgroup.container)
        });
        units.collect()
    }

    /// Makes [`Registry::new_units`] return these units again, given by the paths of their cgroups: their limits are not the
    /// intended ones, which may have changed.
    pub fn ask_again(&mut self, units: &[String]) {
        for path in units {
            let id = self.by_path.get(path.as_str());
            if let Some(cgroup) = id.and_then(|id| self.cgroups.get_mut(id)) {
                cgroup.looks = 0;
            }
        }
    }

    /// Sets what systemd reports of the unit whose cgroup is at `path`.
    pub fn set_unit(&mut self, path: &str, labels: ContainerLabels, intended: Option<Arc<Intent>>) {
        let Some(id) = self.by_path.get(path) else {
            return;
        };
        let Some(cgroup) = self.cgroups.get_mut(id).filter(|it| it.is_unit()) else {
            return;
        };
        cgroup.intended = intended;
        if cgroup.container.labels == labels {
            return;
        }
        let unit = Arc::new(Container {
            labels,
            ..Container::clone(&cgroup.container)
        });
        let living = self.cgroups.values_mut().filter(|it| it.gone.is_none());
        for cgroup in living.filter(|it| it.container.kind == ContainerKind::Unit) {
            if cgroup.container.cgroup == path {
                cgroup.container = Arc::clone(&unit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use agent_ebpf::{CgroupKey, Counts, NAMESPACES, Task};
    use agent_model::container::ContainerAction;
    use agent_model::labels::LabelPatterns;
    use agent_model::limit::Source;

    use super::*;

    const SERVICE: &str = "/system.slice/web.service";

    fn key(id: u64) -> CgroupKey {
        CgroupKey {
            id,
            hierarchy: 4,
            zero: 0,
        }
    }

    fn registry() -> Registry {
        let mut registry = Registry::new([1; NAMESPACES]);
        let below = format!("{SERVICE}/below");
        let own = "/user.slice/user-7.slice/user@7.service/app.slice/a.service";
        let paths = ["/system.slice", SERVICE, &*below, "/lab", "/agent/web", own];
        for (id, path) in (20..).zip(paths) {
            registry.add(key(id), path, SystemTime::UNIX_EPOCH);
        }
        registry
    }

    #[test]
    fn a_unit_starts_and_stops() {
        let mut registry = registry();
        let started = registry.set_populated(key(21), true, 5).unwrap();
        assert_eq!(started.action, ContainerAction::Start);
        assert_eq!(started.container.name, "web.service");
        assert_eq!(registry.set_populated(key(22), true, 5), None);
        // A service may run one process after the other.
        assert_eq!(registry.set_populated(key(21), false, 6), None);
        assert_eq!(registry.set_populated(key(21), true, 7), None);
        registry.set_populated(key(21), false, 8);
        let period = registry.take_empty(key(21)).unwrap();
        let stopped = registry.end_empty(key(21), period).unwrap();
        assert_eq!(stopped.action, ContainerAction::Stop);
        assert_eq!(stopped.exit, None);
        registry.set_populated(key(21), true, 9).unwrap();
        let removed = registry.remove(key(21), &Counts::default(), Instant::now());
        assert_eq!(removed.unwrap().action, ContainerAction::Stop);
        // A plain cgroup does neither.
        assert_eq!(registry.set_populated(key(23), true, 5), None);
    }

    #[test]
    fn a_task_that_is_found_is_in_all_units_around_it() {
        let mut registry = registry();
        let mut task = Task::EMPTY;
        (task.cgroups.ids[0], task.cgroups.hierarchies[0]) = (22, 4);
        task.cgroups.levels[0] = 3;
        assert!(!registry.set_found(&task));
        let mut running: Vec<&str> = registry
            .units()
            .filter(|it| it.life.running())
            .map(|it| &*it.container.name)
            .collect();
        running.sort_unstable();
        assert_eq!(running, ["system.slice", "web.service"]);
        assert_eq!(registry.set_populated(key(21), true, 7), None);
        let removed = registry.remove(key(21), &Counts::default(), Instant::now());
        assert_eq!(removed.unwrap().action, ContainerAction::Stop);
    }

    #[test]
    fn what_systemd_reports_is_asked_once_and_again() {
        let mut registry = registry();
        let names = |registry: &mut Registry, most| {
            let units = registry.new_units(most).into_iter();
            let mut names: Vec<String> = units.map(|it| it.name.clone()).collect();
            names.sort_unstable();
            names
        };
        // A user's own systemd is not asked.
        let mut all = names(&mut registry, 1);
        all.extend(names(&mut registry, 9));
        all.sort_unstable();
        assert_eq!(all, ["system.slice", "web.service"]);
        assert!(names(&mut registry, 9).is_empty());
        let labels = LabelPatterns::all().select([("systemd.description", "The web")]);
        let intent = Arc::new(Intent::new(Vec::new(), Source::Systemd));
        registry.set_unit(SERVICE, labels.clone(), Some(Arc::clone(&intent)));
        let of = |path: &str, registry: &Registry| {
            let cgroup = registry.all().find(|it| it.path == path).unwrap();
            (cgroup.container.labels.clone(), cgroup.intended.is_some())
        };
        assert_eq!(of(SERVICE, &registry), (labels.clone(), true));
        // Those below belong to it, also later ones.
        registry.add(key(30), &format!("{SERVICE}/later"), SystemTime::UNIX_EPOCH);
        for below in ["below", "later"] {
            let below = of(&format!("{SERVICE}/{below}"), &registry);
            assert_eq!(below, (labels.clone(), false));
        }
        registry.ask_again(&[SERVICE.to_owned(), "/nowhere".to_owned()]);
        assert_eq!(names(&mut registry, 9), ["web.service"]);
        // Only a unit has a description.
        registry.set_unit("/lab", labels, Some(intent));
        assert_eq!(of("/lab", &registry), (ContainerLabels::default(), false));
    }
}
