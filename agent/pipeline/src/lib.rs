//! The way of an event: ring, decode, attribute, fan out. The only place where the stages meet.

#![warn(missing_docs, unreachable_pub)]

mod confirm;
mod demand;
mod ending;
mod escapes;
pub mod look;
mod missed;
mod reader;
mod scan;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agent_ebpf::{KINDS, RecordKind};
use agent_host::hierarchy::Hierarchies;
use agent_model::lock::lock;
use agent_model::text;
use agent_registry::claim::{Claim, Witnesses};
use agent_registry::registry::Registry;
use agent_stream::filter::EventFilter;
use agent_stream::streams::{EventStream, EventStreams, TooMany};
use agent_tracer::kernel::counts::KernelCounts;
use agent_tracer::kernel::probes::see_events;
use agent_tracer::kernel::{Kernel, KernelError, LoadedKernel, TraceOptions};
use confirm::Waiting;
use demand::Demand;
use reader::RingReader;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;

use agent_model::warn_once::WarnOnce;

/// Claims that are looked for before anything is read from the rings; for others later.
const CLAIMS_AT_FIRST: usize = 8192;

/// Claims that are looked at again for one command, some 50 µs each, and how long at most.
const CLAIMS_AT_MOST: usize = 1024;
const LOOKED_AT_MOST: Duration = Duration::from_millis(100);

/// Why tracing cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("the host's cgroups cannot be found")]
    Host(#[from] agent_host::Error),
    #[error("no probe for events can be attached: agent doctor says why")]
    Blind,
    #[error("the tracing thread cannot start")]
    Thread(#[source] std::io::Error),
}

/// What became of the rings' records of one kind. `decoded` and `undecodable` add up to what the
/// kernel submitted.
#[derive(Debug, Default)]
pub struct Decoded {
    pub decoded: AtomicU64,
    pub undecodable: AtomicU64,
}

/// What the tracing thread and its readers share.
pub struct PipelineState {
    pub registry: Mutex<Registry>,
    pub counts: Mutex<KernelCounts>,
    pub kernel: Mutex<Kernel>,
    pub hierarchies: Hierarchies,
    pub streams: Arc<EventStreams>,
    witnesses: Witnesses,
    /// Claims that somebody else than the tracing thread is to look for.
    waiting: Waiting,
    demand: Mutex<Demand>,
    decoded: [Decoded; KINDS],
    stop: AtomicBool,
    wake: OwnedFd,
}

/// Tracing, under way on a thread of its own. Dropping it detaches all probes.
pub struct Pipeline {
    shared: Arc<PipelineState>,
    threads: Vec<JoinHandle<()>>,
}

impl Pipeline {
    /// Attaches the probes, scans what was there before, and starts to read the ring. When this
    /// returns, nothing is missed any more. `witnesses` are asked what confirms a container's claim.
    ///
    /// # Errors
    /// Where the kernel refuses, or the host's cgroups cannot be read.
    pub fn start(
        root: &Path,
        options: &TraceOptions,
        streams: Arc<EventStreams>,
        witnesses: Witnesses,
    ) -> Result<Self, PipelineError> {
        let hierarchies = Hierarchies::discover(root)?;
        let LoadedKernel {
            kernel,
            mut counts,
            ring,
            frequent,
            wanted,
            log,
        } = agent_tracer::kernel::load(options)?;
        let kept = counts.cgroups();
        scan::oom_kills(&hierarchies, &mut counts);
        let (kernel, host) = kernel.attach()?;
        if !see_events(kernel.statuses()) {
            return Err(PipelineError::Blind);
        }
        // Attached first and scanned then, so that nothing falls between.
        let mut registry = Registry::new(host);
        scan::directories(&hierarchies, |chunk| scan::add(&mut registry, chunk));
        let claims = registry.new_claims(CLAIMS_AT_FIRST);
        registry.confirm(witnesses.confirm_all(&claims));
        scan::processes(&kernel.snapshot()?, &mut registry, &mut counts);
        scan::forget_gone(kept, &registry, &mut counts);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| PipelineError::Thread(error.into()))?;
        let demand = Mutex::new(Demand::new(wanted, &hierarchies));
        let shared = Arc::new(PipelineState {
            registry: Mutex::new(registry),
            counts: Mutex::new(counts),
            kernel: Mutex::new(kernel),
            hierarchies,
            streams,
            witnesses,
            waiting: Waiting::default(),
            demand,
            decoded: Default::default(),
            stop: AtomicBool::new(false),
            wake,
        });
        // Of the streams that were open before.
        shared.update_demand();
        let reader = RingReader::new(Arc::clone(&shared), ring, frequent, log);
        let mut pipeline = Self {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        pipeline.spawn("tracer", move || reader.run())?;
        let recheck = lock(&shared.kernel).recheck().map(OwnedFd::try_clone);
        if let Some(program) = recheck.transpose().map_err(PipelineError::Thread)? {
            let shared = Arc::clone(&shared);
            pipeline.spawn("escapes", move || escapes::recheck(&program, &shared.stop))?;
        }
        pipeline.spawn("witness", move || {
            let look = |claim: &Claim| shared.witnesses.confirm(claim);
            shared.waiting.serve(look, || shared.wake_reader());
        })?;
        Ok(pipeline)
    }

    fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), PipelineError> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        self.threads
            .push(thread.spawn(run).map_err(PipelineError::Thread)?);
        Ok(())
    }

    pub fn shared(&self) -> &Arc<PipelineState> {
        &self.shared
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake_reader();
        self.shared.waiting.stop();
        for thread in &self.threads {
            thread.thread().unpark();
        }
        for thread in self.threads.drain(..) {
            // A panic there was printed already.
            let _ = thread.join();
        }
    }
}

impl PipelineState {
    /// What became of the rings' records of `kind`.
    pub fn decoded(&self, kind: RecordKind) -> &Decoded {
        &self.decoded[kind as usize]
    }

    /// Opens a stream. All that `filter` wants and that happens after this is in it.
    ///
    /// # Errors
    /// When too many are open.
    pub fn open(&self, filter: EventFilter) -> Result<EventStream, TooMany> {
        let stream = self.streams.open(filter)?;
        self.update_demand();
        self.wake_reader();
        Ok(stream)
    }

    /// Tells the kernel what the streams want.
    pub fn update_demand(&self) {
        static UNTOLD: WarnOnce = WarnOnce::new();
        let registry = lock(&self.registry);
        match lock(&self.demand).update(&self.streams, &registry) {
            Ok(()) => UNTOLD.clear(),
            Err(error) => {
                let why = text::error_line(&error);
                let what = "the kernel cannot be told which events are wanted";
                UNTOLD.warn(&format!("{what}: {why}"));
            }
        }
    }

    /// Looks again for what confirms the claims that nothing did: an engine may leave its record a moment after it
    /// makes the cgroup. For commands that name containers.
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

    fn wake_reader(&self) {
        // It fails where a wake-up is under way already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}
