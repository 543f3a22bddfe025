//! The agent's metrics about itself. The prometheus crate holds them. Most are copies of counters of other modules,
//! which each scrape updates.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_host::fdinfo;
use agent_host::kept::Sizes;
use agent_host::system::System;
use agent_model::lock::lock;
use agent_stream::kind::EventKind as StreamKind;
use agent_tracer::kernel::runs::Runs;
use prometheus::{
    CounterVec, Encoder, GaugeVec, IntCounterVec, IntGaugeVec, Registry, TextEncoder,
};

use super::catalogue::{self, Metric};
use super::series::{Bound, LeftOut, Sort};
use super::traffic::{Reason, Side, Traffic};
use agent_engines::docker;
use agent_pipeline::PipelineState;

/// Why the metrics cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the agent's own metrics cannot be written")]
pub struct EncodeError(#[from] prometheus::Error);

/// The results of a scrape of the cgroups that the agent's own metrics report.
#[derive(Clone, Copy, Debug)]
pub struct Scrape {
    pub duration: Duration,
    pub read_errors: u64,
    /// Events that the BPF programs attributed to no cgroup, because their map was full.
    pub overflow: u64,
    pub kept: Sizes,
    pub interfaces_left_out: u64,
    pub devices_left_out: u64,
    pub filesystems_left_out: u64,
    pub cgroups_left_out: LeftOut,
    pub labels_left_out: u64,
}

/// All `agent_*` metrics.
pub struct AgentMetrics {
    registry: Registry,
    probe_attached: IntGaugeVec,
    probe_missed: IntCounterVec,
    events: IntCounterVec,
    watchers: IntGaugeVec,
    queue_length: IntGaugeVec,
    queue_capacity: IntGaugeVec,
    registry_cgroups: IntGaugeVec,
    registry_containers: IntGaugeVec,
    registry_full: IntCounterVec,
    counts_overflow: IntCounterVec,
    bpf_map_bytes: IntGaugeVec,
    scrape_duration: GaugeVec,
    scrapes: IntCounterVec,
    cgroup_read_errors: IntCounterVec,
    kept_descriptors: IntGaugeVec,
    kept_descriptors_limit: IntGaugeVec,
    watched_directories: IntGaugeVec,
    unwatched_directories: IntGaugeVec,
    left_out: IntCounterVec,
    cgroups_left_out: IntGaugeVec,
    bpf_run_count: IntCounterVec,
    bpf_run_time: CounterVec,
    /// Whether this process has the kernel measure BPF programs, whatever `kernel.bpf_stats_enabled` is.
    bpf_stats: bool,
    engine: Option<Arc<docker::DockerState>>,
    engine_connected: IntGaugeVec,
    engine_errors: IntCounterVec,
    engine_unanswered: IntCounterVec,
    unconfirmed_containers: IntGaugeVec,
    engine_names: IntGaugeVec,
    engine_names_refused: IntCounterVec,
    traffic: Arc<Traffic>,
    http_connections: IntGaugeVec,
    http_closed: IntCounterVec,
}

/// Makes and registers the family of a metric. A test shows that the crate accepts all names and labels of the
/// catalogue.
macro_rules! family {
    ($registry:ident, $type:ident, $metric:ident) => {{
        let metric: &Metric = &catalogue::$metric;
        let family = $type::new(metric.opts(), metric.labels)?;
        $registry.register(Box::new(family.clone()))?;
        family
    }};
}

impl AgentMetrics {
    /// Registers all families. `bpf_stats` tells that the kernel measures BPF programs, whatever
    /// `kernel.bpf_stats_enabled` is. `engine` is the engine that reports containers, where one is asked.
    ///
    /// # Errors
    /// Two metrics of the catalogue have the same name.
    pub fn new(
        bpf_stats: bool,
        engine: Option<Arc<docker::DockerState>>,
        traffic: Arc<Traffic>,
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build_info = family!(registry, IntGaugeVec, BUILD_INFO);
        let kernel = System::read(Path::new("/")).kernel.unwrap_or_default();
        build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION"), &kernel])
            .set(1);
        Ok(Self {
            probe_attached: family!(registry, IntGaugeVec, PROBE_ATTACHED),
            probe_missed: family!(registry, IntCounterVec, PROBE_MISSED),
            events: family!(registry, IntCounterVec, EVENTS),
            watchers: family!(registry, IntGaugeVec, WATCHERS),
            queue_length: family!(registry, IntGaugeVec, QUEUE_LENGTH),
            queue_capacity: family!(registry, IntGaugeVec, QUEUE_CAPACITY),
            registry_cgroups: family!(registry, IntGaugeVec, REGISTRY_CGROUPS),
            registry_containers: family!(registry, IntGaugeVec, REGISTRY_CONTAINERS),
            registry_full: family!(registry, IntCounterVec, REGISTRY_FULL),
            counts_overflow: family!(registry, IntCounterVec, COUNTS_OVERFLOW),
            bpf_map_bytes: family!(registry, IntGaugeVec, BPF_MAP_BYTES),
            scrape_duration: family!(registry, GaugeVec, SCRAPE_DURATION),
            scrapes: family!(registry, IntCounterVec, SCRAPES),
            cgroup_read_errors: family!(registry, IntCounterVec, CGROUP_READ_ERRORS),
            kept_descriptors: family!(registry, IntGaugeVec, KEPT_DESCRIPTORS),
            kept_descriptors_limit: family!(registry, IntGaugeVec, KEPT_DESCRIPTORS_LIMIT),
            watched_directories: family!(registry, IntGaugeVec, WATCHED_DIRECTORIES),
            unwatched_directories: family!(registry, IntGaugeVec, UNWATCHED_DIRECTORIES),
            left_out: family!(registry, IntCounterVec, LEFT_OUT),
            cgroups_left_out: family!(registry, IntGaugeVec, CGROUPS_LEFT_OUT),
            bpf_run_count: family!(registry, IntCounterVec, BPF_RUN_COUNT),
            bpf_run_time: family!(registry, CounterVec, BPF_RUN_TIME),
            bpf_stats,
            engine,
            engine_connected: family!(registry, IntGaugeVec, ENGINE_CONNECTED),
            engine_errors: family!(registry, IntCounterVec, ENGINE_ERRORS),
            engine_unanswered: family!(registry, IntCounterVec, ENGINE_UNANSWERED),
            unconfirmed_containers: family!(registry, IntGaugeVec, UNCONFIRMED_CONTAINERS),
            engine_names: family!(registry, IntGaugeVec, ENGINE_NAMES),
            engine_names_refused: family!(registry, IntCounterVec, ENGINE_NAMES_REFUSED),
            traffic,
            http_connections: family!(registry, IntGaugeVec, HTTP_CONNECTIONS),
            http_closed: family!(registry, IntCounterVec, HTTP_CLOSED),
            registry,
        })
    }

    /// Updates all metrics after a scrape of the cgroups, and returns their text.
    ///
    /// # Errors
    /// The prometheus crate cannot encode the metrics.
    pub fn text(&self, shared: &PipelineState, scrape: Scrape) -> Result<String, EncodeError> {
        self.take_events(shared);
        self.take_kernel(shared);
        self.take_registry(shared);
        self.take_engine(shared);
        self.take_traffic();
        self.scrapes.with_label_values(&[] as &[&str]).inc();
        self.cgroup_read_errors
            .with_label_values(&[] as &[&str])
            .inc_by(scrape.read_errors);
        set(&self.counts_overflow, &[], scrape.overflow);
        let kept = scrape.kept;
        for (family, size) in [
            (&self.kept_descriptors, kept.descriptors),
            (&self.kept_descriptors_limit, kept.descriptors_limit),
            (&self.watched_directories, kept.watched),
            (&self.unwatched_directories, kept.unwatched),
        ] {
            family.with_label_values(&[] as &[&str]).set(size as i64);
        }
        for (what, count) in [
            ("interface", scrape.interfaces_left_out),
            ("device", scrape.devices_left_out),
            ("label", scrape.labels_left_out),
            ("file_system", scrape.filesystems_left_out),
        ] {
            self.left_out.with_label_values(&[what]).inc_by(count);
        }
        self.take_left_out(&scrape.cgroups_left_out);
        let duration = scrape.duration.as_secs_f64();
        self.scrape_duration
            .with_label_values(&[] as &[&str])
            .set(duration);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        // The crate writes UTF-8.
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn take_left_out(&self, left_out: &LeftOut) {
        for (sort, by_bound) in Sort::ALL.iter().zip(left_out) {
            for (bound, count) in Bound::ALL.iter().zip(by_bound) {
                let labels = [sort.name(), bound.name()];
                let gauge = self.cgroups_left_out.with_label_values(&labels);
                gauge.set(*count as i64);
            }
        }
    }

    /// Copies the counters of events at each stage.
    fn take_events(&self, shared: &PipelineState) {
        let counts = lock(&shared.counts);
        for kind in agent_ebpf::RecordKind::ALL {
            let name = kind.name();
            if let Ok(outcomes) = counts.outcomes(*kind) {
                for (outcome, value) in [
                    ("seen", outcomes.seen),
                    ("submitted", outcomes.submitted),
                    ("no_room", outcomes.no_room),
                    ("unwanted", outcomes.unwanted),
                    ("suppressed", outcomes.suppressed),
                ] {
                    set(&self.events, &["kernel", name, outcome], value);
                }
            }
            let decoded = shared.decoded(*kind);
            for (outcome, value) in [
                ("decoded", &decoded.decoded),
                ("undecodable", &decoded.undecodable),
            ] {
                set(
                    &self.events,
                    &["decode", name, outcome],
                    value.load(Ordering::Relaxed),
                );
            }
        }
        for kind in StreamKind::ALL
            .into_iter()
            .filter(|kind| *kind != StreamKind::Lost)
        {
            let outcomes = shared.streams.outcomes(kind);
            for (outcome, value) in [
                ("matched", &outcomes.matched),
                ("written", &outcomes.written),
                ("lost", &outcomes.lost),
            ] {
                set(
                    &self.events,
                    &["sink", kind.name(), outcome],
                    value.load(Ordering::Relaxed),
                );
            }
        }
    }

    fn take_kernel(&self, shared: &PipelineState) {
        let root = Path::new("/");
        let (probes, programs, maps) = {
            let kernel = lock(&shared.kernel);
            let probes = kernel.statuses().iter();
            let probes = probes.map(|it| (it.probe, it.mechanism.name(), it.attached()));
            let probes: Vec<_> = probes.collect();
            (probes, kernel.programs(), duplicates(kernel.maps()))
        };
        let measured = self.bpf_stats || System::read(root).bpf_stats == Some(true);
        if !measured {
            self.bpf_run_count.reset();
            self.bpf_run_time.reset();
        }
        let runs = programs.runs(root);
        for (probe, mechanism, attached) in probes {
            self.probe_attached
                .with_label_values(&[probe, mechanism])
                .set(attached.into());
            let Runs {
                missed,
                count,
                nanoseconds,
            } = runs.get(probe).copied().unwrap_or_default();
            set(&self.probe_missed, &[probe], missed);
            if measured {
                set(&self.bpf_run_count, &[probe], count);
                let time = self.bpf_run_time.with_label_values(&[probe]);
                time.inc_by((nanoseconds as f64 / 1e9 - time.get()).max(0.0));
            }
        }
        for (map, descriptor) in maps {
            if let Ok([Some(bytes)]) = fdinfo::numbers(root, descriptor.as_fd(), ["memlock:"]) {
                self.bpf_map_bytes
                    .with_label_values(&[&map])
                    .set(bytes as i64);
            }
        }
    }

    fn take_engine(&self, shared: &PipelineState) {
        let registry = lock(&shared.registry);
        self.engine_names
            .with_label_values(&[] as &[&str])
            .set(registry.named() as i64);
        set(&self.engine_names_refused, &[], registry.names_refused());
        if let Some(engine) = &self.engine {
            self.engine_connected
                .with_label_values(&[docker::DOCKER])
                .set(engine.connected.load(Ordering::Relaxed).into());
            let errors = engine.errors.load(Ordering::Relaxed);
            set(&self.engine_errors, &[docker::DOCKER], errors);
            let unanswered = engine.unanswered.load(Ordering::Relaxed);
            set(&self.engine_unanswered, &[docker::DOCKER], unanswered);
        }
    }

    fn take_traffic(&self) {
        for side in Side::ALL {
            self.http_connections
                .with_label_values(&[side.name()])
                .set(self.traffic.open(side) as i64);
            for reason in Reason::ALL {
                let labels = [side.name(), reason.name()];
                set(
                    &self.http_closed,
                    &labels,
                    self.traffic.closed(side, reason),
                );
            }
        }
    }

    fn take_registry(&self, shared: &PipelineState) {
        let registry = lock(&shared.registry);
        let (live, dead) = registry.sizes();
        self.registry_cgroups
            .with_label_values(&["live"])
            .set(live as i64);
        self.registry_cgroups
            .with_label_values(&["dead"])
            .set(dead as i64);
        let (confirmed, claimed) = registry.confirmed_sizes();
        self.unconfirmed_containers
            .with_label_values(&[] as &[&str])
            .set(claimed as i64);
        let containers = (confirmed + claimed) as i64;
        self.registry_containers
            .with_label_values(&[] as &[&str])
            .set(containers);
        set(&self.registry_full, &[], registry.refused());
        let watchers = shared.streams.count() as i64;
        self.watchers
            .with_label_values(&[] as &[&str])
            .set(watchers);
        let (length, room) = shared.streams.fullest_queue();
        self.queue_length
            .with_label_values(&["stream"])
            .set(length as i64);
        self.queue_capacity
            .with_label_values(&["stream"])
            .set(room as i64);
    }
}

/// Duplicates the descriptors, so that the caller can use them without holding the lock.
fn duplicates<'name, 'fd>(
    descriptors: impl Iterator<Item = (&'name str, BorrowedFd<'fd>)>,
) -> Vec<(String, OwnedFd)> {
    let own = descriptors.filter_map(|(name, descriptor)| {
        let descriptor = descriptor.try_clone_to_owned().ok()?;
        Some((name.to_owned(), descriptor))
    });
    own.collect()
}

/// Sets a counter to the value of another module's counter.
fn set(family: &IntCounterVec, labels: &[&str], value: u64) {
    let counter = family.with_label_values(labels);
    // A prometheus counter can only grow.
    counter.inc_by(value.saturating_sub(counter.get()));
}
