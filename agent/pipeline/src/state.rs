//! The state that the tracing thread shares with scrapes and streams.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_ebpf::{KINDS, RecordKind};
use agent_host::hierarchy::Hierarchies;
use agent_model::clock;
use agent_model::lock::lock;
use agent_model::text;
use agent_model::warn_once::WarnOnce;
use agent_registry::claim::Witnesses;
use agent_registry::registry::Registry;
use agent_stream::filter::EventFilter;
use agent_stream::streams::{EventStream, EventStreams, TooMany};
use agent_tracer::kernel::Kernel;
use agent_tracer::kernel::counts::KernelCounts;
use rustix::fd::OwnedFd;

use super::confirm::Waiting;
use super::demand::Demand;
use super::load::Loads;
use super::stops::UnitResults;

/// The most claims that the pipeline tries again for one command, at some 50 µs each.
const CLAIMS_AT_MOST: usize = 1024;
/// The most time that the pipeline tries claims again for one command.
const LOOKED_AT_MOST: Duration = Duration::from_millis(100);

/// How many records of one kind were decoded. The sum of both counters is what the kernel side submitted.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Records that became an event.
    pub decoded: AtomicU64,
    /// Records that could not be decoded.
    pub undecodable: AtomicU64,
}

/// The state that the tracing thread and its readers share.
pub struct PipelineState {
    /// Every cgroup, and the container that it belongs to.
    pub registry: Mutex<Registry>,
    /// The kernel side's counts.
    pub counts: Mutex<KernelCounts>,
    /// The loaded programs.
    pub kernel: Mutex<Kernel>,
    /// The host's cgroup hierarchies.
    pub hierarchies: Hierarchies,
    /// The open streams.
    pub streams: Arc<EventStreams>,
    /// The load averages, where [`TraceOptions::loads`](agent_tracer::kernel::TraceOptions::loads) asked for them.
    pub loads: Loads,
    pub(super) witnesses: Witnesses,
    /// Claims that wait for the thread `witness`.
    pub(super) waiting: Waiting,
    pub(super) demand: Mutex<Demand>,
    pub(super) results: Mutex<UnitResults>,
    pub(super) decoded: [Decoded; KINDS],
    pub(super) stop: AtomicBool,
    pub(super) wake: OwnedFd,
}

impl PipelineState {
    /// How many of the rings' records of `kind` were decoded.
    pub fn decoded(&self, kind: RecordKind) -> &Decoded {
        &self.decoded[kind as usize]
    }

    /// Opens a stream of the events that `filter` matches and that happen after this call.
    ///
    /// # Errors
    /// Too many streams are open.
    pub fn open(&self, filter: EventFilter) -> Result<EventStream, TooMany> {
        let stream = self.streams.open(filter)?;
        self.update_demand();
        self.wake_reader();
        Ok(stream)
    }

    /// Sets what the kernel side sends to the frequent rings, by the filters of the open streams.
    pub fn update_demand(&self) {
        static NOT_SET: WarnOnce = WarnOnce::new();
        let registry = lock(&self.registry);
        match lock(&self.demand).update(&self.streams, &registry) {
            Ok(()) => NOT_SET.clear(),
            Err(error) => {
                let why = text::error_line(&error);
                let what = "the kernel cannot be told which events are wanted";
                NOT_SET.warn(&format!("{what}: {why}"));
            }
        }
    }

    /// Tries unconfirmed claims again, for commands that name containers: an engine may leave its record a moment after it
    /// makes the cgroup. Takes 100 ms at most.
    pub fn confirm_claims(&self) {
        let claims = lock(&self.registry).unconfirmed(CLAIMS_AT_MOST);
        let began = Instant::now();
        let in_time = claims
            .iter()
            .take_while(|_| began.elapsed() < LOOKED_AT_MOST);
        let confirmed: Vec<_> = in_time
            .filter_map(|claim| self.witnesses.confirm(claim))
            .collect();
        lock(&self.registry).confirm(confirmed);
    }

    /// Sets whether [`Self::set_unit_result`] is called for units that stop.
    pub fn expect_unit_results(&self, are_reported: bool) {
        lock(&self.results).are_reported = are_reported;
    }

    /// Adds the result that systemd reports of a unit whose processes have ended, to the event of its stop.
    pub fn set_unit_result(&self, unit: String, result: String) {
        lock(&self.results).add(unit, result, clock::since_boot());
        self.wake_reader();
    }

    pub(super) fn wake_reader(&self) {
        // The write fails if the reader is being woken already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}
