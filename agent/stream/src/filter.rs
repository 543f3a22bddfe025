//! Which events a watcher wants.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use agent_ebpf::NamespaceType;
use agent_model::container::{Container, ContainerKind};
use agent_model::names::is_named;

use super::kind::EventKind;
use super::stream_event::{
    Caller, EventDetails, EventProcess, EventSubject, Joined, NamespaceCall, StreamEvent,
};

/// Which events a watcher wants. An empty set matches every event, a set with values matches an event that has one of
/// them, and an event must match all sets. `lost` always matches: no filter hides a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The wanted kinds. Empty: all kinds but the frequent ones.
    pub kinds: BTreeSet<EventKind>,
    /// Names, ids, or the first 12 or more hexadecimal digits of ids, of any container in the
    /// event: the caller's, a child's, a victim's, the one whose namespaces are entered.
    pub containers: BTreeSet<String>,
    /// Host pids or tids of any task in the event.
    pub pids: BTreeSet<NonZeroU32>,
    /// Namespace types that a call requested or changed, or that a process escaped to.
    pub namespaces: BTreeSet<NamespaceType>,
    /// Thread names of any process in the event.
    pub comms: BTreeSet<String>,
    /// Whether the caller must be a process of the host, outside of containers and sandboxes.
    pub host: bool,
}

impl EventFilter {
    /// Whether the watcher wants any event of `kind`.
    pub fn wants(&self, kind: EventKind) -> bool {
        if self.kinds.is_empty() {
            !kind.is_frequent()
        } else {
            self.kinds.contains(&kind)
        }
    }

    /// Whether the watcher wants any of the frequent kinds.
    pub fn wants_frequent(&self) -> bool {
        EventKind::FREQUENT.into_iter().any(|kind| self.wants(kind))
    }

    /// Whether no fork, exec or exit by the tasks of a cgroup can match. `container` is the container that the cgroup
    /// belongs to, if it belongs to one.
    pub fn excludes_cgroup(&self, container: Option<&Container>) -> bool {
        if !self.wants_frequent() {
            return true;
        }
        // A task in a plain cgroup may be in a container's cgroup of another hierarchy, or in a sandbox.
        let of_another = !self.containers.is_empty()
            && container.is_some_and(|container| !self.names(container));
        (self.host && container.is_some()) || of_another
    }

    /// Whether the watcher wants this event.
    pub fn matches(&self, event: &StreamEvent) -> bool {
        let kind = EventKind::of(&event.details);
        if kind == EventKind::Lost {
            return true;
        }
        self.wants(kind)
            && (self.containers.is_empty() || containers(event).any(|it| self.names(it)))
            && (self.pids.is_empty() || processes(event).any(|it| self.counts(it)))
            && (self.namespaces.is_empty() || self.touched_by(&event.details))
            && (self.comms.is_empty() || processes(event).any(|it| self.comms.contains(&it.comm)))
            && (!self.host || event.caller.as_ref().is_some_and(is_on_host))
    }

    fn names(&self, container: &Container) -> bool {
        let mut wanted = self.containers.iter();
        wanted.any(|wanted| is_named(&container.name, &container.id, wanted))
    }

    fn counts(&self, process: &EventProcess) -> bool {
        [process.pid, process.tid]
            .into_iter()
            .filter_map(NonZeroU32::new)
            .any(|id| self.pids.contains(&id))
    }

    fn touched_by(&self, event: &EventDetails) -> bool {
        if let EventDetails::Escape { namespace, .. } = event {
            return self.namespaces.iter().any(|it| it.name() == namespace);
        }
        namespace_call(event)
            .is_some_and(|call| self.namespaces.iter().any(|it| touches(call, *it)))
    }
}

fn is_on_host(caller: &Caller) -> bool {
    let of_host = |container: &Container| match container.kind {
        ContainerKind::Container | ContainerKind::Sandbox => false,
        // A login session is a scope, and its processes belong to the host.
        ContainerKind::Unit | ContainerKind::Cgroup => true,
    };
    !caller.container_unknown && caller.container.as_deref().is_none_or(of_host)
}

/// The processes of an event other than its caller.
fn subjects(event: &EventDetails) -> impl Iterator<Item = &EventSubject> {
    let subjects = match event {
        EventDetails::Clone { child, .. } | EventDetails::Fork { child } => [Some(child), None],
        EventDetails::Oom(oom) => [Some(&oom.victim), Some(&oom.trigger)],
        _ => [None, None],
    };
    subjects.into_iter().flatten()
}

fn processes(event: &StreamEvent) -> impl Iterator<Item = &EventProcess> {
    let caller = event.caller.iter().map(|it| &it.process);
    caller.chain(subjects(&event.details).map(|it| &it.process))
}

fn containers(event: &StreamEvent) -> impl Iterator<Item = &Container> {
    let caller = event.caller.iter().filter_map(|it| it.container.as_deref());
    let subjects = subjects(&event.details).filter_map(|it| it.container.as_deref());
    let joined = match &event.details {
        EventDetails::Setns {
            joined: Some(Joined::Container(container)),
            ..
        } => Some(&**container),
        _ => None,
    };
    caller.chain(subjects).chain(joined)
}

fn namespace_call(event: &EventDetails) -> Option<&NamespaceCall> {
    match event {
        EventDetails::Clone { call, .. }
        | EventDetails::Unshare { call }
        | EventDetails::Setns { call, .. } => Some(call),
        _ => None,
    }
}

fn touches(call: &NamespaceCall, namespace: NamespaceType) -> bool {
    let changed = call.changed.keys().map(|entry| namespace_type(entry));
    let mut names = call.requested.iter().map(String::as_str).chain(changed);
    names.any(|name| name == namespace.name())
}

/// The type of an entry of `/proc/PID/ns`: `pid` for `pid_for_children`.
pub(super) fn namespace_type(entry: &str) -> &str {
    entry.strip_suffix("_for_children").unwrap_or(entry)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::samples::WEB_ID;
    use crate::{query, samples};

    /// The filter that `query` asks for.
    fn filter(query: &str) -> EventFilter {
        query::parse(query).unwrap()
    }

    #[track_caller]
    fn check(event: &StreamEvent, wanted: &[&str], unwanted: &[&str]) {
        for query in wanted {
            assert!(filter(query).matches(event), "{query} wants it");
        }
        for query in unwanted {
            assert!(!filter(query).matches(event), "{query} does not want it");
        }
    }

    #[test]
    fn options_add_values_and_combine() {
        check(
            &samples::unshare(),
            &[
                "",
                "kind=unshare",
                "kind=oom&kind=unshare",
                "kind=unshare&namespace=net&comm=unshare",
            ],
            &[
                "kind=oom",
                "kind=lost",
                "kind=unshare&namespace=pid",
                "kind=oom&namespace=net",
            ],
        );
    }

    #[test]
    fn a_container_is_named_by_name_id_or_start_of_id() {
        let [whole, start, short] =
            [64, 12, 11].map(|digits| format!("container={}", &WEB_ID[..digits]));
        check(
            &samples::unshare(),
            &[
                "container=web-1",
                &whole,
                &start,
                "container=db-1&container=web-1",
            ],
            &[
                &short,
                "container=web",
                "container=WEB-1",
                "container=123456789abc",
                "container=db-1",
            ],
        );
    }

    #[test]
    fn the_start_of_a_path_is_no_id() {
        let service = Some(samples::service());
        check(
            &samples::by(1, "cron", service, samples::unshare().details),
            &[
                "container=cron.service",
                "container=/system.slice/cron.service",
            ],
            &["container=/system.slice/cron"],
        );
    }

    #[test]
    fn all_who_take_part_count() {
        let (web, service) = (Some(samples::web()), Some(samples::service()));
        let call = || samples::call(&["net"], &[], "0");
        let child = samples::subject(8, "child", web.clone());
        let clone = EventDetails::Clone {
            call: call(),
            child,
        };
        check(
            &samples::by(7, "runc", None, clone),
            &[
                "container=web-1",
                "pid=7",
                "pid=8",
                "pid=9&pid=8",
                "comm=runc",
                "comm=child",
            ],
            &["container=cron.service", "pid=1", "pid=9", "comm=run"],
        );
        let joined = Some(Joined::Container(samples::web()));
        check(
            &samples::by(
                7,
                "nsenter",
                service.clone(),
                EventDetails::Setns {
                    call: call(),
                    joined,
                },
            ),
            &["container=web-1", "container=cron.service"],
            &["container=db-1"],
        );
        let EventDetails::Oom(mut oom) = samples::oom().details else {
            panic!("not an OOM kill");
        };
        oom.victim.container = service;
        check(
            &samples::by(4712, "stress-ng-vm", web, EventDetails::Oom(oom)),
            &[
                "container=web-1",
                "container=cron.service",
                "pid=4711",
                "pid=4712",
                "comm=stress-ng",
            ],
            &["container=db-1", "pid=4713", "namespace=net"],
        );
    }

    #[test]
    fn a_thread_counts_by_its_own_number() {
        let mut event = samples::unshare();
        let process = &mut event.caller.as_mut().unwrap().process;
        (process.tid, process.ppid, process.ns_pid) = (1235, 1236, 1237);
        check(&event, &["pid=1234", "pid=1235"], &["pid=1236", "pid=1237"]);
    }

    #[test]
    fn a_namespace_counts_when_asked_for_or_changed() {
        let event = |requested: &[&str], changed: &[(&str, u32, u32)], result| {
            let call = samples::call(requested, changed, result);
            samples::by(1, "sh", None, EventDetails::Unshare { call })
        };
        check(
            &event(&["net"], &[], "EPERM"),
            &["namespace=net"],
            &["namespace=user"],
        );
        check(
            &event(&[], &[("mnt", 1, 2)], "0"),
            &["namespace=mnt", "namespace=mount"],
            &["namespace=net"],
        );
        check(
            &event(&[], &[("pid_for_children", 1, 2)], "0"),
            &["namespace=pid"],
            &["namespace=time"],
        );
        check(
            &event(&[], &[("time_for_children", 1, 2)], "0"),
            &["namespace=net&namespace=time"],
            &[],
        );
    }

    #[test]
    fn the_host_is_where_no_container_is() {
        let event = samples::unshare().details;
        let mut event = samples::by(1, "sh", None, event);
        check(&event, &["host=true", "host=false"], &[]);
        event.caller.as_mut().unwrap().container_unknown = true;
        check(&event, &["host=false"], &["host=true"]);
        check(&samples::unshare(), &["host=false"], &["host=true"]);
        let mut own = samples::by(
            1,
            "sh",
            Some(samples::service()),
            samples::unshare().details,
        );
        check(&own, &["host=true", "host=false"], &[]);
        for (kind, is_host) in [
            (ContainerKind::Unit, true),
            (ContainerKind::Cgroup, true),
            (ContainerKind::Sandbox, false),
            (ContainerKind::Container, false),
        ] {
            let caller = own.caller.as_mut().unwrap();
            Arc::make_mut(caller.container.as_mut().unwrap()).kind = kind;
            assert_eq!(filter("host=true").matches(&own), is_host, "{kind:?}");
        }
    }

    proptest! {
        #[test]
        fn a_loss_always_passes(filter in samples::filter()) {
            prop_assert!(filter.matches(&samples::lost()));
        }

        #[test]
        fn what_takes_part_is_found(event in samples::event()) {
            let all = || EventFilter { kinds: EventKind::ALL.into(), ..EventFilter::default() };
            prop_assert!(all().matches(&event));
            for process in processes(&event) {
                let pids = NonZeroU32::new(process.pid).into_iter().collect();
                let comms = [process.comm.clone()].into();
                let filter = EventFilter { pids, comms, ..all() };
                prop_assert!(filter.matches(&event));
            }
            for container in containers(&event) {
                let containers = [container.id.clone()].into();
                let filter = EventFilter { containers, ..all() };
                prop_assert!(filter.matches(&event));
            }
        }

        #[test]
        fn what_a_cgroup_is_excluded_for_is_not_wanted(
            filter in samples::filter(),
            event in samples::event(),
        ) {
            let caller = event.caller.as_ref();
            let container = caller.and_then(|it| it.container.as_deref());
            let own = container.filter(|it| it.kind == ContainerKind::Container);
            let in_cgroup = caller.is_some_and(|it| it.container_unknown) || container.is_some();
            // A filter may match a fork because of its child, whose cgroup is checked separately.
            let frequent = matches!(event.details, EventDetails::Exec { .. } | EventDetails::Exit { .. });
            if frequent && in_cgroup && filter.excludes_cgroup(own) {
                prop_assert!(!filter.matches(&event));
            }
        }

        #[test]
        fn all_options_must_hold(filter in samples::filter(), event in samples::event()) {
            let EventFilter { kinds, containers, pids, namespaces, comms, host } = filter.clone();
            let all = || EventFilter { kinds: EventKind::ALL.into(), ..EventFilter::default() };
            let options = [
                EventFilter { kinds, ..EventFilter::default() },
                EventFilter { containers, ..all() },
                EventFilter { pids, ..all() },
                EventFilter { namespaces, ..all() },
                EventFilter { comms, ..all() },
                EventFilter { host, ..all() },
            ];
            let all = options.iter().all(|it| it.matches(&event));
            prop_assert_eq!(filter.matches(&event), all);
        }
    }
}
