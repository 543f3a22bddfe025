//! The stops of systemd's units. systemd reports the result of a unit a moment after the last process of the unit has ended,
//! so the stop waits for it, for a second at most.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use agent_model::container::{Container, ContainerAction, ContainerKind};
use agent_registry::unit::Manager;
use agent_stream::stream_event::{EventDetails, StreamEvent};

/// How long a stop waits for the result.
const WAIT: Duration = Duration::from_secs(1);

/// The most stops that wait, and the most results that are kept for stops to come. Beyond that, the oldest stop is published
/// without a result, and all results are forgotten.
const AT_MOST: usize = 1024;

/// The results that systemd has reported.
#[derive(Debug, Default)]
pub(crate) struct UnitResults {
    /// Whether somebody reports results.
    pub(crate) are_reported: bool,
    /// By the unit's name, with the time in ns of CLOCK_BOOTTIME.
    by_unit: HashMap<String, (u64, String)>,
}

impl UnitResults {
    /// Notes a result that was reported at `time`.
    pub(crate) fn add(&mut self, unit: String, result: String, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if self.by_unit.len() >= AT_MOST {
            self.by_unit.clear();
        }
        self.by_unit.insert(unit, (time, result));
    }

    /// The result of the unit that was reported after `time`; an earlier one is that of an earlier run.
    fn since(&self, unit: &str, time: u64) -> Option<String> {
        let (reported, result) = self.by_unit.get(unit)?;
        (*reported >= time).then(|| result.clone())
    }
}

/// A stop that waits.
#[derive(Debug)]
struct WaitingStop {
    unit: String,
    /// The time of the event in ns of CLOCK_BOOTTIME.
    time: u64,
    waits_since: Instant,
    event: StreamEvent,
}

/// The stops that wait, in the order in which they happened.
#[derive(Debug, Default)]
pub(crate) struct UnitStops(VecDeque<WaitingStop>);

impl UnitStops {
    /// Returns the events to publish instead of `event`, which happened at `time`: none if it is a stop that waits, else the
    /// event, after the stop of the same unit if that still waits.
    pub(crate) fn before(
        &mut self,
        event: StreamEvent,
        time: u64,
        are_reported: bool,
    ) -> Vec<StreamEvent> {
        let EventDetails::Container { action, .. } = &event.details else {
            return vec![event];
        };
        let container = event.caller.as_ref().and_then(|it| it.container.as_deref());
        let Some(unit) = container.filter(|it| has_result(it)) else {
            return vec![event];
        };
        let unit = unit.name.clone();
        if *action == ContainerAction::Stop && are_reported {
            let waits_since = Instant::now();
            self.0.push_back(WaitingStop {
                unit,
                time,
                waits_since,
                event,
            });
            let surplus = self.0.len().saturating_sub(AT_MOST);
            return self.0.drain(..surplus).map(|stop| stop.event).collect();
        }
        let waiting = self.0.iter().position(|stop| stop.unit == unit);
        let stop = waiting.and_then(|at| self.0.remove(at));
        let stop = stop.map(|stop| stop.event);
        stop.into_iter().chain([event]).collect()
    }

    /// Returns the stops whose results were reported, with these, and those that have waited for long enough.
    pub(crate) fn ready(&mut self, results: &UnitResults, now: Instant) -> Vec<StreamEvent> {
        let mut ready = Vec::new();
        self.0.retain_mut(|stop| {
            let reported = results.since(&stop.unit, stop.time);
            if reported.is_none() && now.duration_since(stop.waits_since) < WAIT {
                return true;
            }
            if let EventDetails::Container { result, .. } = &mut stop.event.details {
                *result = reported;
            }
            ready.push(stop.event.clone());
            false
        });
        ready
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all stops that wait.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = StreamEvent> {
        self.0.drain(..).map(|stop| stop.event)
    }
}

/// Whether systemd reports a result of the unit: of the host's services and scopes.
fn has_result(unit: &Container) -> bool {
    unit.kind == ContainerKind::Unit
        && !unit.name.ends_with(".slice")
        && Manager::of(&unit.cgroup) == Manager::System
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use agent_ebpf::{CgroupKey, NAMESPACES, Task};
    use agent_model::clock::Clock;
    use agent_model::event::{Body, Event};
    use agent_registry::life::LifeChange;
    use agent_registry::registry::Registry;
    use agent_stream::describe::describe;

    use super::*;

    fn change(action: ContainerAction, path: &str) -> StreamEvent {
        let mut registry = Registry::new([1; NAMESPACES]);
        let cgroup = CgroupKey {
            id: 20,
            hierarchy: 4,
            zero: 0,
        };
        registry.add(cgroup, path, SystemTime::UNIX_EPOCH);
        let container = registry.get(cgroup).map(|it| Arc::clone(&it.container));
        let change = LifeChange {
            action,
            container: container.unwrap(),
            exit: None,
        };
        let event = Event {
            time: 5,
            caller: Task::EMPTY,
            body: Body::CgroupRmdir { cgroup },
        };
        describe(&event, Some(&change), &registry, Clock::now()).unwrap()
    }

    fn results(of: &[StreamEvent]) -> Vec<Option<String>> {
        let results = of.iter().map(|event| match &event.details {
            EventDetails::Container { result, .. } => result.clone(),
            _ => None,
        });
        results.collect()
    }

    const SERVICE: &str = "/system.slice/web.service";

    #[test]
    fn a_stop_waits_for_its_result_and_no_longer_than_a_second() {
        let mut stops = UnitStops::default();
        let mut reported = UnitResults::default();
        // That of an earlier run.
        let seconds = Duration::from_secs;
        reported.add("web.service".to_owned(), "success".to_owned(), seconds(1));
        let time = 2_000_000_000;
        let stop = || change(ContainerAction::Stop, SERVICE);
        assert!(stops.before(stop(), time, true).is_empty());
        assert!(stops.ready(&reported, Instant::now()).is_empty());
        reported.add("web.service".to_owned(), "oom-kill".to_owned(), seconds(3));
        let ready = stops.ready(&reported, Instant::now());
        assert_eq!(results(&ready), [Some("oom-kill".to_owned())]);

        assert!(stops.before(stop(), 2 * time, true).is_empty());
        let ready = stops.ready(&reported, Instant::now() + WAIT);
        assert_eq!(results(&ready), [None]);
        assert!(stops.is_empty());
    }

    #[test]
    fn the_next_start_of_a_unit_comes_after_its_stop() {
        let mut stops = UnitStops::default();
        let stop = change(ContainerAction::Stop, SERVICE);
        assert!(stops.before(stop.clone(), 5, true).is_empty());
        let other = change(ContainerAction::Start, "/system.slice/other.service");
        assert_eq!(stops.before(other.clone(), 5, true), [other]);
        let start = change(ContainerAction::Start, SERVICE);
        assert_eq!(stops.before(start.clone(), 6, true), [stop, start]);
        assert!(stops.is_empty());
    }

    #[test]
    fn what_has_no_result_does_not_wait() {
        let mut stops = UnitStops::default();
        for (path, are_reported) in [
            (SERVICE, false),
            ("/system.slice", true),
            ("/agent/web", true),
            (
                "/user.slice/user-7.slice/user@7.service/app.slice/a.service",
                true,
            ),
        ] {
            let stop = change(ContainerAction::Stop, path);
            assert_eq!(
                stops.before(stop.clone(), 5, are_reported),
                [stop],
                "{path}"
            );
        }
        let stop = || change(ContainerAction::Stop, SERVICE);
        for _ in 0..AT_MOST {
            assert!(stops.before(stop(), 5, true).is_empty());
        }
        assert_eq!(stops.before(stop(), 5, true).len(), 1);
        assert_eq!(stops.take().count(), AT_MOST);
    }
}
