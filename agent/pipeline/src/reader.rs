//! The thread that reads the rings.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use agent_ebpf::{CgroupKey, Counts, KINDS, RecordKind, RecordOutcomes, Task};
use agent_model::clock::Clock;
use agent_model::event::{Body, Event};
use agent_model::lock::lock;
use agent_model::{clock, text};
use agent_registry::claim::{Claim, Confirmation};
use agent_registry::learn::learn;
use agent_registry::registry::{Registry, keys};
use agent_stream::describe::describe;
use agent_stream::kind::EventKind as StreamKind;
use agent_stream::stream_event::StreamEvent;
use agent_sys::ring::Ring;
use agent_tracer::decode;
use agent_tracer::kernel::counts::KernelCounts;
use agent_tracer::kernel::frequent::{Frequent, Rings};
use agent_tracer::kernel::runs::Programs;
use aya_log::EbpfLogger;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::confirm::Allowance;
use super::ending::EmptyContainers;
use super::missed::{Missed, Skipped};
use super::scan;
use super::state::PipelineState;
use super::stops::UnitStops;

use agent_model::warn_once::WarnOnce;

/// How often the reader checks for losses, and for what watchers want.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How long a frequent record waits at most. Frequent records wake the reader only when many wait.
const FREQUENT_INTERVAL: Duration = Duration::from_millis(20);

/// The least time between two scans for cgroups that the registry does not know.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// Scans take at most one part in this many of the reader's time.
const SCAN_SHARE: u32 = 4;

static UNREAD: WarnOnce = WarnOnce::new();
static NO_EVENT: WarnOnce = WarnOnce::new();

/// How often the reader searches the rare ring for the record that announces an unknown cgroup. The kernel side sent it
/// before the frequent record, but it may be behind a record that another CPU is still writing.
const TRIES: u32 = 16;

/// The most cgroups that are remembered as not found by a scan.
const LACKING_AT_MOST: usize = 4096;

/// The state of the tracing thread.
pub(crate) struct RingReader {
    shared: Arc<PipelineState>,
    rare: Ring,
    /// The frequent rings. They are mapped while a watcher wants frequent events, and afterwards until they are empty.
    frequent: Option<Rings>,
    unwanted: Option<Instant>,
    frequent_map: Frequent,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    clock: Clock,
    /// Losses in the kernel that were reported to streams, by [`RecordKind`].
    known_losses: [u64; KINDS],
    programs: Arc<Programs>,
    missed: Missed,
    ending: EmptyContainers,
    stops: UnitStops,
    looked: Instant,
    scanned: Instant,
    scan_took: Duration,
    /// Whether records of made or removed cgroups have been lost since the last scan.
    lost_births: bool,
    /// Cgroups that were not found since the last scan.
    lacking: HashSet<CgroupKey>,
    allowance: Allowance,
}

impl RingReader {
    pub(crate) fn new(
        shared: Arc<PipelineState>,
        rare: Ring,
        frequent_map: Frequent,
        log: Option<EbpfLogger<&'static dyn log::Log>>,
    ) -> Self {
        let programs = lock(&shared.kernel).programs();
        Self {
            shared,
            rare,
            frequent: None,
            unwanted: None,
            frequent_map,
            log,
            clock: Clock::now(),
            known_losses: [0; KINDS],
            programs,
            missed: Missed::new(),
            ending: EmptyContainers::default(),
            stops: UnitStops::default(),
            looked: Instant::now(),
            scanned: Instant::now(),
            scan_took: Duration::ZERO,
            lost_births: false,
            lacking: HashSet::new(),
            allowance: Allowance::new(),
        }
    }

    /// Reads until the pipeline stops.
    pub(crate) fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.follow_demand();
            self.wait();
            self.clock = self.clock.kept();
            self.drain();
            self.take_found();
            self.tell_stops();
            if let Some(log) = &mut self.log {
                log.flush();
            }
            let since = self.looked.elapsed();
            if since >= LOOK_INTERVAL {
                self.looked = Instant::now();
                self.shared.update_demand();
                self.tell_losses(since);
                self.confirm_found();
                self.end_empty();
                lock(&self.shared.registry).forget(Instant::now());
            }
        }
        for event in self.stops.take() {
            self.shared.streams.publish(event);
        }
    }

    /// Maps the frequent rings while a watcher wants frequent events.
    fn follow_demand(&mut self) {
        if lock(&self.shared.demand).is_some() {
            self.unwanted = None;
            if self.frequent.is_none() {
                match self.frequent_map.open() {
                    Ok(rings) => self.frequent = Some(rings),
                    Err(error) => {
                        let why = text::error_line(&error);
                        UNREAD.warn(&format!("forks, execs and exits cannot be read: {why}"));
                    }
                }
            }
            return;
        }
        // Programs that ran while the demand changed may still send.
        let unwanted = *self.unwanted.get_or_insert_with(Instant::now);
        if unwanted.elapsed() >= LOOK_INTERVAL && !self.read_frequent() {
            self.frequent = None;
        }
    }

    /// Waits until a ring has records, or an interval has passed.
    fn wait(&self) {
        let interval = if self.frequent.is_some() {
            FREQUENT_INTERVAL
        } else {
            LOOK_INTERVAL
        };
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: interval.subsec_nanos().into(),
        };
        let log = self.log.as_ref().map(AsFd::as_fd);
        let frequent = self.frequent.iter().flat_map(Rings::descriptors);
        let descriptors = [self.rare.as_fd(), self.shared.wake.as_fd()];
        let descriptors = descriptors.into_iter().chain(log).chain(frequent);
        let mut descriptors: Vec<_> = descriptors
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        // After an interrupted wait the reader looks at the rings as after any other.
        let _ = poll(&mut descriptors, Some(&timeout));
        // Reset the counter, so that the next poll waits.
        let _ = rustix::io::read(&self.shared.wake, &mut [0u8; 8]);
    }

    /// Reads the rings, rare records first. It stops after an interval, so that a flood of records does not keep this
    /// thread from its other work.
    fn drain(&mut self) {
        let began = Instant::now();
        while began.elapsed() < LOOK_INTERVAL && (self.read_rare() || self.read_frequent()) {}
    }

    /// Takes one record of the rare ring; false if there is none.
    fn read_rare(&mut self) -> bool {
        let Some(read) = self.rare.next(read) else {
            return false;
        };
        let event = counted(read, &self.shared);
        let Ok(event) = event else { return true };
        let mut confirmed = self.look_for_confirmation(&event);
        let mut registry = lock(&self.shared.registry);
        if registry.lacking_of(&event.caller).is_some() && self.may_scan() {
            drop(registry);
            self.scan();
            registry = lock(&self.shared.registry);
        }
        let take = |key: CgroupKey| -> Counts { lock(&self.shared.counts).take(key) };
        if !matches!(event.body, Body::CgroupMkdir { .. }) {
            registry.confirm(confirmed.take());
        }
        let change = learn(&event, &mut registry, self.clock, take);
        let record = describe(&event, change.as_ref(), &registry, self.clock);
        registry.confirm(confirmed);
        self.ending.note(&event, &mut registry, Instant::now());
        if matches!(event.body, Body::Exec(_)) {
            begin(&event.caller, &registry, &mut lock(&self.shared.counts));
        }
        drop(registry);
        if let Some(record) = record {
            self.publish(record, event.time);
        }
        if self.ending.is_full() {
            self.end_empty();
        }
        true
    }

    /// Confirms the claim of a new cgroup, or of one whose init process executes a program: engines leave their records
    /// before one of the two. No other event makes the reader open files. A container in several hierarchies makes it
    /// do so once.
    ///
    /// If that took too much time lately, the claim goes to the thread `witness`.
    fn look_for_confirmation(&mut self, event: &Event) -> Option<Confirmation> {
        let mut registry = lock(&self.shared.registry);
        let claim = match &event.body {
            Body::CgroupMkdir { path, .. } => {
                let claim = Claim::of(path).filter(|claim| claim.cgroup == *path)?;
                registry.is_new_claim(path).then_some(claim)
            }
            Body::Exec(_) => registry.claim_of(&event.caller),
            _ => None,
        };
        drop(registry);
        let claim = claim?;
        if !self.allowance.is_left() {
            self.shared.waiting.push(claim);
            return None;
        }
        let began = Instant::now();
        let found = self.shared.witnesses.confirm(&claim);
        if found.as_ref().is_none_or(|found| found.user != 0) {
            self.allowance.spend(began.elapsed());
        }
        found
    }

    /// Whether the last scan is long enough ago to leave most of the time to the rings.
    fn may_scan(&self) -> bool {
        self.scanned.elapsed() >= SCAN_INTERVAL.max(self.scan_took * SCAN_SHARE)
    }

    /// Scans for cgroups. The registry is locked only while a chunk of them is added.
    fn scan(&mut self) {
        let began = Instant::now();
        let PipelineState {
            hierarchies,
            registry,
            counts,
            ..
        } = &*self.shared;
        if std::mem::take(&mut self.lost_births) {
            scan::again(hierarchies, registry, counts);
        } else {
            scan::directories(hierarchies, |chunk| scan::add(&mut lock(registry), chunk));
        }
        self.lacking.clear();
        self.scan_took = began.elapsed();
        self.scanned = Instant::now();
        self.confirm_found();
    }

    /// Hands the thread `witness` the claims that a scan found, and those for which it had no room.
    fn confirm_found(&self) {
        let room = self.shared.waiting.room();
        for claim in lock(&self.shared.registry).new_claims(room) {
            self.shared.waiting.push(claim);
        }
    }

    fn take_found(&self) {
        let found = self.shared.waiting.take_found();
        if !found.is_empty() {
            lock(&self.shared.registry).confirm(found);
        }
    }

    /// Publishes the stops of containers that stayed empty for long enough.
    fn end_empty(&mut self) {
        let now = Instant::now();
        let mut registry = lock(&self.shared.registry);
        let ended = self.ending.ended(&mut registry, self.clock, now);
        drop(registry);
        for (record, time) in ended {
            self.publish(record, time);
        }
    }

    /// Publishes an event that happened at `time`, unless it is the stop of a unit whose result is still to come.
    fn publish(&mut self, event: StreamEvent, time: u64) {
        let are_reported = lock(&self.shared.results).are_reported;
        for event in self.stops.before(event, time, are_reported) {
            self.shared.streams.publish(event);
        }
    }

    /// Publishes the stops of units whose results have come, or have not come in time.
    fn tell_stops(&mut self) {
        if self.stops.is_empty() {
            return;
        }
        let ready = self
            .stops
            .ready(&lock(&self.shared.results), Instant::now());
        for event in ready {
            self.shared.streams.publish(event);
        }
    }

    /// Takes one record of the frequent rings; false if there is none.
    fn read_frequent(&mut self) -> bool {
        let Some(read) = self.frequent.as_mut().and_then(|rings| rings.next(read)) else {
            return false;
        };
        let event = counted(read, &self.shared);
        let Ok(event) = event else { return true };
        let lacking = lacking(&lock(&self.shared.registry), &event);
        if let Some(cgroup) = lacking {
            self.look_for(cgroup, &event);
        }
        let record = describe(&event, None, &lock(&self.shared.registry), self.clock);
        if let Some(record) = record {
            self.shared.streams.publish(record);
        }
        true
    }

    /// Looks for the event's cgroup in the rare ring: the rings are not ordered against each other, so the record that
    /// announces the cgroup may still be there.
    fn look_for(&mut self, cgroup: CgroupKey, event: &Event) {
        if self.lacking.contains(&cgroup) && !self.may_scan() {
            return;
        }
        let began = Instant::now();
        for _ in 0..TRIES {
            while began.elapsed() < FREQUENT_INTERVAL && self.read_rare() {}
            if lacking(&lock(&self.shared.registry), event).is_none() {
                return;
            }
            std::thread::yield_now();
        }
        if self.may_scan() {
            self.scan();
        }
        if self.lacking.len() < LACKING_AT_MOST {
            self.lacking.insert(cgroup);
        }
    }

    /// Reports to streams the records that the kernel side lost in the last `time`.
    fn tell_losses(&mut self, time: Duration) {
        let Skipped { mut kinds, within } = self.missed.since_last(&self.programs);
        let losses = &mut kinds;
        for kind in RecordKind::ALL {
            let Ok(outcomes) = lock(&self.shared.counts).outcomes(*kind) else {
                continue;
            };
            let RecordOutcomes {
                no_room,
                suppressed,
                ..
            } = outcomes;
            let known = &mut self.known_losses[*kind as usize];
            let lost = (no_room + suppressed).saturating_sub(*known);
            *known += lost;
            if lost > 0 {
                losses.push((stream_kind(*kind), lost));
            }
        }
        let mut lost = losses.iter().map(|(kind, _)| *kind);
        self.lost_births |= lost.any(|kind| kind == StreamKind::Container);
        if self.lost_births && self.may_scan() {
            self.scan();
        }
        if !losses.is_empty() {
            let since = clock::since_boot().saturating_sub(time.max(within));
            let since = self.clock.moment(since.as_nanos() as u64);
            self.shared.streams.publish_loss(losses, since);
        }
    }
}

/// Updates the kernel's maps when a cgroup's init process executes a program.
fn begin(task: &Task, registry: &Registry, counts: &mut KernelCounts) {
    if let Some(key) = registry.counted_outside_containers(task) {
        // A service's namespaces are no baseline for the containers that it makes below.
        counts.forget_baseline(key);
    } else if let Some(key) = keys(task).next() {
        scan::lend(key, registry, counts);
    }
}

/// A record's kind, and its event.
type Read = (
    Result<RecordKind, decode::DecodeError>,
    Result<Event, decode::DecodeError>,
);

fn read(bytes: &[u8]) -> Read {
    (decode::kind(bytes), decode::decode(bytes))
}

/// The event of a record, after it was counted by its kind.
fn counted((kind, event): Read, shared: &PipelineState) -> Result<Event, decode::DecodeError> {
    let decoded = kind.ok().map(|kind| &shared.decoded[kind as usize]);
    match &event {
        Ok(_) => {
            if let Some(decoded) = decoded {
                decoded.decoded.fetch_add(1, Ordering::Relaxed);
            }
        }
        Err(error) => {
            if let Some(decoded) = decoded {
                decoded.undecodable.fetch_add(1, Ordering::Relaxed);
            }
            let why = text::error_line(error);
            NO_EVENT.warn(&format!("a record of the ring is no event: {why}"));
        }
    }
    event
}

/// A cgroup of the event's tasks that the registry does not know.
fn lacking(registry: &Registry, event: &Event) -> Option<CgroupKey> {
    let child = match &event.body {
        Body::Fork { child } => registry.lacking_of(child),
        _ => None,
    };
    child.or_else(|| registry.lacking_of(&event.caller))
}

/// The kind under which a stream reports the loss of a record.
fn stream_kind(kind: RecordKind) -> StreamKind {
    match kind {
        RecordKind::Clone => StreamKind::Clone,
        RecordKind::Unshare => StreamKind::Unshare,
        RecordKind::Setns => StreamKind::Setns,
        RecordKind::Oom => StreamKind::Oom,
        RecordKind::CgroupMkdir | RecordKind::CgroupRmdir | RecordKind::CgroupPopulated => {
            StreamKind::Container
        }
        RecordKind::Exec => StreamKind::Exec,
        RecordKind::Exit => StreamKind::Exit,
        RecordKind::Fork => StreamKind::Fork,
        RecordKind::Escape => StreamKind::Escape,
    }
}
