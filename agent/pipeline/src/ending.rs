//! Containers that became empty before their init process was seen. An engine's short-lived helpers come and go before
//! the init process. So such a container has stopped only when it stays empty for a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use agent_ebpf::CgroupKey;
use agent_model::clock::Clock;
use agent_model::event::{Body, Event};
use agent_registry::life::EmptyPeriod;
use agent_registry::registry::Registry;
use agent_stream::stream_event::StreamEvent;

use agent_stream::describe::describe;

/// How long a container stays empty before it has stopped. The helpers of `agent run` and runc end within milliseconds of
/// the start of the init process.
const WAIT: Duration = Duration::from_secs(1);

/// The most containers that are waited for. Beyond that, the one that became empty first counts as stopped.
const AT_MOST: usize = 1024;

/// The empty containers, in the order in which they became empty.
#[derive(Debug, Default)]
pub(crate) struct EmptyContainers(VecDeque<Empty>);

#[derive(Debug)]
struct Empty {
    since: Instant,
    cgroup: CgroupKey,
    spell: EmptyPeriod,
    /// The event that made it empty.
    event: Box<Event>,
}

impl EmptyContainers {
    /// Remembers the event if it made a container empty that may be populated again.
    pub(crate) fn note(&mut self, event: &Event, registry: &mut Registry, now: Instant) {
        let (Body::CgroupPopulated { cgroup, .. } | Body::CgroupRmdir { cgroup }) = &event.body
        else {
            return;
        };
        let Some(spell) = registry.take_empty(*cgroup) else {
            return;
        };
        self.0.push_back(Empty {
            since: now,
            cgroup: *cgroup,
            spell,
            event: Box::new(event.clone()),
        });
    }

    /// Whether there are too many of them.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() > AT_MOST
    }

    /// Ends the lives of containers that were empty for long enough, and returns their stops, each with the time of its event
    /// in ns of CLOCK_BOOTTIME.
    pub(crate) fn ended(
        &mut self,
        registry: &mut Registry,
        clock: Clock,
        now: Instant,
    ) -> Vec<(StreamEvent, u64)> {
        let mut records = Vec::new();
        while let Some(first) = self.0.front() {
            if now.duration_since(first.since) < WAIT && !self.is_full() {
                break;
            }
            let Some(empty) = self.0.pop_front() else {
                break;
            };
            if let Some(change) = registry.end_empty(empty.cgroup, empty.spell) {
                let record = describe(&empty.event, Some(&change), registry, clock);
                records.extend(record.map(|record| (record, empty.event.time)));
            }
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use agent_ebpf::{NAMESPACES, Task};
    use agent_model::container::ContainerAction;
    use agent_stream::stream_event::EventDetails;

    use super::*;

    fn key(id: u64) -> CgroupKey {
        CgroupKey {
            id,
            hierarchy: 4,
            zero: 0,
        }
    }

    /// Containers, each with one directory.
    struct Host {
        registry: Registry,
        ending: EmptyContainers,
        began: Instant,
    }

    impl Host {
        fn new(containers: u64) -> Self {
            let mut registry = Registry::new([1; NAMESPACES]);
            for id in 0..containers {
                let path = format!("/agent/web{id}");
                registry.add(key(id + 20), &path, SystemTime::UNIX_EPOCH);
            }
            Self {
                registry,
                ending: EmptyContainers::default(),
                began: Instant::now(),
            }
        }

        /// A container has tasks, or none, after some milliseconds: whether it started.
        fn populated(&mut self, id: u64, populated: bool, at: u64) -> bool {
            let cgroup = key(id);
            let event = Event {
                time: at,
                caller: Task::EMPTY,
                body: Body::CgroupPopulated { cgroup, populated },
            };
            let change = self.registry.set_populated(cgroup, populated, at);
            self.ending.note(
                &event,
                &mut self.registry,
                self.began + Duration::from_millis(at),
            );
            change.is_some_and(|change| change.action == ContainerAction::Start)
        }

        /// How many containers have stopped by then.
        fn stopped(&mut self, at: u64) -> usize {
            let now = self.began + Duration::from_millis(at);
            let records = self.ending.ended(&mut self.registry, Clock::now(), now);
            let stop = |(it, _): &(StreamEvent, u64)| {
                matches!(
                    it.details,
                    EventDetails::Container {
                        action: ContainerAction::Stop,
                        ..
                    }
                )
            };
            assert!(records.iter().all(stop), "{records:?}");
            records.len()
        }
    }

    #[test]
    fn it_ends_when_nobody_has_come_for_a_while() {
        let mut host = Host::new(1);
        assert!(host.populated(20, true, 0));
        host.populated(20, false, 10);
        assert_eq!(host.stopped(1009), 0);
        assert_eq!(host.stopped(1010), 1);
        assert_eq!(host.stopped(5000), 0);
        // Another life.
        assert!(host.populated(20, true, 6000));
    }

    #[test]
    fn who_comes_meanwhile_goes_on_with_its_life() {
        let mut host = Host::new(1);
        assert!(host.populated(20, true, 0));
        host.populated(20, false, 10);
        assert!(!host.populated(20, true, 500));
        assert_eq!(host.stopped(1100), 0);
        // Its time is counted anew.
        host.populated(20, false, 1200);
        assert!(!host.populated(20, true, 1300));
        host.populated(20, false, 1400);
        assert_eq!(host.stopped(2300), 0);
        assert_eq!(host.stopped(2400), 1);
    }

    #[test]
    fn one_that_is_removed_has_ended() {
        let mut host = Host::new(1);
        host.populated(20, true, 0);
        host.populated(20, false, 10);
        let counts = agent_ebpf::Counts::default();
        let change = host.registry.remove(key(20), &counts, Instant::now());
        assert_eq!(change.unwrap().action, ContainerAction::Stop);
        assert_eq!(host.stopped(5000), 0);
    }

    #[test]
    fn no_more_are_waited_for_than_there_is_room() {
        let many = AT_MOST as u64 + 7;
        let mut host = Host::new(many);
        for id in 20..20 + many {
            host.populated(id, true, 0);
            host.populated(id, false, 1);
        }
        assert_eq!(host.stopped(2), 7);
        assert_eq!(host.stopped(1001), AT_MOST);
    }
}
