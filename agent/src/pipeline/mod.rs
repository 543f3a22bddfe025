//! The way of an event: ring, decode, attribute, fan out. The only place where the stages meet.

mod scan;

use std::{
    os::fd::AsFd,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use agent_ebpf::{CgroupKey, Counts, KINDS, Kind, Outcomes};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    fd::OwnedFd,
};

use crate::{
    container::{attribute::attribute, registry::Registry},
    event::{self, clock::Clock},
    host::hierarchy::Hierarchies,
    kernel::{Kernel, KernelError, Loaded, Options, counts::KernelCounts, probes::see_events},
    lock::lock,
    watch::{kind::Kind as StreamKind, streams::Streams},
};

/// How often losses are looked for.
const LOSS_INTERVAL: Duration = Duration::from_millis(250);

/// At most one scan for cgroups that were born unseen in this time.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// Why tracing cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("the host's cgroups cannot be found")]
    Host(#[from] crate::host::Error),
    #[error("no probe for events can be attached: agent doctor says why")]
    Blind,
    #[error("the tracing thread cannot start")]
    Thread(#[source] std::io::Error),
}

/// What became of the ring's records of one kind. `decoded` and `undecodable` add up to what the
/// kernel submitted.
#[derive(Debug, Default)]
pub struct Decoded {
    pub decoded: AtomicU64,
    pub undecodable: AtomicU64,
}

/// What the tracing thread and its readers share.
pub struct Shared {
    pub registry: Mutex<Registry>,
    pub counts: Mutex<KernelCounts>,
    pub kernel: Mutex<Kernel>,
    pub hierarchies: Hierarchies,
    pub streams: Arc<Streams>,
    decoded: [Decoded; KINDS],
    stop: AtomicBool,
    wake: OwnedFd,
}

/// Tracing, under way on a thread of its own. Dropping it detaches all probes.
pub struct Pipeline {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Pipeline {
    /// Attaches the probes, scans what was there before, and starts to read the ring. When this
    /// returns, nothing is missed any more.
    ///
    /// # Errors
    /// Where the kernel refuses, or the host's cgroups cannot be read.
    pub fn start(
        root: &Path,
        options: &Options,
        streams: Arc<Streams>,
    ) -> Result<Self, PipelineError> {
        let hierarchies = Hierarchies::discover(root)?;
        let Loaded {
            mut kernel,
            mut counts,
            ring,
            log,
            ..
        } = crate::kernel::load(options)?;
        let kept = counts.cgroups();
        let host = kernel.attach(options)?;
        if !see_events(kernel.statuses()) {
            return Err(PipelineError::Blind);
        }
        // Attached first and scanned then, so that nothing falls between.
        let mut registry = Registry::new(host);
        scan::directories(&hierarchies, &mut registry);
        scan::processes(&kernel.snapshot()?, &mut registry, &mut counts);
        scan::oom_kills(&hierarchies, &registry, &mut counts);
        scan::forget_strangers(kept, &registry, &mut counts);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| PipelineError::Thread(error.into()))?;
        let shared = Arc::new(Shared {
            registry: Mutex::new(registry),
            counts: Mutex::new(counts),
            kernel: Mutex::new(kernel),
            hierarchies,
            streams,
            decoded: Default::default(),
            stop: AtomicBool::new(false),
            wake,
        });
        let reader = Reader {
            shared: Arc::clone(&shared),
            ring,
            log,
            clock: Clock::now(),
            known_losses: [0; KINDS],
            losses_read: Instant::now(),
            scanned: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("tracer".to_owned())
            .spawn(move || reader.run())
            .map_err(PipelineError::Thread)?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Written once, to a counter of 64 bits: it has room.
        let _ = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What became of the ring's records of `kind`.
    pub fn decoded(&self, kind: Kind) -> &Decoded {
        &self.decoded[kind as usize]
    }
}

/// The thread that reads the ring.
struct Reader {
    shared: Arc<Shared>,
    ring: aya::maps::RingBuf<aya::maps::MapData>,
    log: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
    clock: Clock,
    /// Losses in the kernel that streams were told of, by [`Kind`].
    known_losses: [u64; KINDS],
    losses_read: Instant,
    scanned: Instant,
}

impl Reader {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.wait();
            self.clock = self.clock.kept();
            self.drain();
            if let Some(log) = &mut self.log {
                log.flush();
            }
            if self.losses_read.elapsed() >= LOSS_INTERVAL {
                self.losses_read = Instant::now();
                self.tell_losses();
                lock(&self.shared.registry).forget(Instant::now());
            }
        }
    }

    /// Until there is something to read, or it is time to look for losses.
    fn wait(&self) {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: LOSS_INTERVAL.subsec_nanos().into(),
        };
        let mut descriptors = vec![
            PollFd::new(&self.ring, PollFlags::IN),
            PollFd::new(&self.shared.wake, PollFlags::IN),
        ];
        descriptors.extend(
            self.log
                .as_ref()
                .map(|log| PollFd::from_borrowed_fd(log.as_fd(), PollFlags::IN)),
        );
        // Interrupted or not: what there is to do is looked at anyway.
        let _ = poll(&mut descriptors, Some(&timeout));
    }

    fn drain(&mut self) {
        let began = Instant::now();
        // A flood must not keep this thread from everything else.
        while began.elapsed() < LOSS_INTERVAL
            && let Some(bytes) = self.ring.next()
        {
            let kind = event::kind(&bytes);
            let event = event::decode(&bytes);
            drop(bytes);
            let outcome = kind.ok().map(|kind| &self.shared.decoded[kind as usize]);
            match event {
                Ok(event) => {
                    if let Some(outcome) = outcome {
                        outcome.decoded.fetch_add(1, Ordering::Relaxed);
                    }
                    handle(&self.shared, &event, self.clock, &mut self.scanned);
                }
                Err(error) => {
                    if let Some(outcome) = outcome {
                        outcome.undecodable.fetch_add(1, Ordering::Relaxed);
                    }
                    tracing::warn!(%error, "a record of the ring is no event");
                }
            }
        }
    }

    /// Tells streams of records that the kernel could not send.
    fn tell_losses(&mut self) {
        let mut losses: Vec<(StreamKind, u64)> = Vec::new();
        for kind in Kind::ALL {
            let Ok(outcomes) = lock(&self.shared.counts).outcomes(*kind) else {
                continue;
            };
            let Outcomes {
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
        if losses
            .iter()
            .any(|(kind, _)| *kind == StreamKind::Container)
        {
            let mut registry = lock(&self.shared.registry);
            let mut counts = lock(&self.shared.counts);
            scan::again(&self.shared.hierarchies, &mut registry, &mut counts);
        }
        if !losses.is_empty() {
            let since = event::clock::since_boot().saturating_sub(LOSS_INTERVAL);
            let since = self.clock.moment(since.as_nanos() as u64);
            self.shared.streams.publish_loss(&losses, since);
        }
    }
}

fn handle(shared: &Shared, event: &event::Event, clock: Clock, scanned: &mut Instant) {
    let mut registry = lock(&shared.registry);
    if registry.lacks_cgroup_of(&event.caller) && scanned.elapsed() >= SCAN_INTERVAL {
        *scanned = Instant::now();
        scan::directories(&shared.hierarchies, &mut registry);
    }
    let take = |key: CgroupKey| -> Counts { lock(&shared.counts).take(key) };
    let record = attribute(event, &mut registry, clock, take);
    drop(registry);
    if let Some(record) = record {
        shared.streams.publish(record);
    }
}

/// The kind under which a stream misses a record.
fn stream_kind(kind: Kind) -> StreamKind {
    match kind {
        Kind::Clone => StreamKind::Clone,
        Kind::Unshare => StreamKind::Unshare,
        Kind::Setns => StreamKind::Setns,
        Kind::Oom => StreamKind::Oom,
        Kind::CgroupMkdir
        | Kind::CgroupRmdir
        | Kind::CgroupPopulated
        | Kind::Exec
        | Kind::Exit
        | Kind::Fork
        | Kind::Escape => StreamKind::Container,
    }
}
