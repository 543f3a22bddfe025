//! The tracing thread: it reads a record from a ring, decodes it, attributes it and publishes it. The stages meet only here.
//!
//! [`Pipeline`] runs the threads, [`PipelineState`] is what they share with scrapes and streams, and [`look::look`] reads the
//! host once without tracing it.
//!
//! No lock may be held here while a file is read, an engine is asked or a reader is waited for.

#![warn(missing_docs, unreachable_pub)]

mod confirm;
mod demand;
mod ending;
mod escapes;
pub mod load;
pub mod look;
mod missed;
mod reader;
mod scan;
mod state;
mod stops;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use agent_host::hierarchy::Hierarchies;
use agent_model::lock::lock;
use agent_registry::claim::{Claim, Witnesses};
use agent_registry::registry::Registry;
use agent_stream::streams::EventStreams;
use agent_tracer::kernel::probes::see_events;
use agent_tracer::kernel::{KernelError, LoadedKernel, TraceOptions};
use confirm::Waiting;
use demand::Demand;
use load::Loads;
use reader::RingReader;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
pub use state::{Decoded, PipelineState};

/// The most claims that the pipeline confirms before it reads the rings. It confirms the others later.
const CLAIMS_AT_FIRST: usize = 8192;

/// Why tracing cannot start.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
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

/// The running threads. Dropping it stops them and detaches all probes.
pub struct Pipeline {
    shared: Arc<PipelineState>,
    threads: Vec<JoinHandle<()>>,
}

impl Pipeline {
    /// Attaches the probes, scans the cgroups and processes that exist, and starts to read the rings. After it returns,
    /// every event reaches the streams or is counted as lost. `witnesses` confirms claims.
    ///
    /// # Errors
    /// The kernel refuses, or the host's cgroups cannot be read.
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
        // The probes are attached before the scan, so that nothing is missed in between.
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
            loads: Loads::default(),
            results: Mutex::default(),
            stop: AtomicBool::new(false),
            wake,
        });
        // Streams may be open already.
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
        let threads = lock(&shared.kernel).threads().map(OwnedFd::try_clone);
        let threads = threads.transpose().map_err(PipelineError::Thread)?;
        if let Some(program) = threads.filter(|_| options.loads) {
            let shared = Arc::clone(&shared);
            pipeline.spawn("load", move || {
                load::watch(&program, &shared.loads, &shared.stop);
            })?;
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

    /// What the tracing thread shares with its readers.
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
            // The panic hook has printed a panic of the thread.
            let _ = thread.join();
        }
    }
}
