//! The BPF programs in the kernel: loading, the mechanism of each probe, the rings, and the counters.

mod attempt;
pub mod btf;
pub mod choice;
pub mod config;
pub mod counts;
pub mod frequent;
pub mod lent;
mod object;
pub mod probes;
pub mod program;
pub mod runs;
pub mod threads;

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_ebpf::{NamespaceInodes, RARE_RING_BYTES, Task};
use agent_host::fdinfo;
use agent_sys::ring::Ring;
use attempt::{Attached, Attempt, begin_all};
use aya::maps::{Array, MapData, MapError};
use aya_log::EbpfLogger;
use choice::Mechanisms;
use config::{ConfigError, KernelFacts};
use counts::{CountsError, KernelCounts};
use frequent::{Frequent, FrequentDemand};
use object::{BpfObject, ObjectError};
use probes::{MechanismPrograms, PROBES, ProbeStatus};
use program::{Hook, Loader, ProbeError};
use runs::Programs;
use rustix::process::{Resource, Rlimit, setrlimit};

/// The file in which the kernel shows its type information.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
pub enum KernelError {
    #[error(
        "{BTF_PATH}: this kernel shows no type information (BTF), which tracing needs: \
         boot one built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoBtf(#[source] io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "the kernel does not let this process load BPF programs: run as root (or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN)"
    )]
    Permission(#[source] ObjectError),
    #[error(transparent)]
    Object(ObjectError),
    #[error("a BPF map cannot be used")]
    Map(#[from] MapError),
    #[error("the processes of the host cannot be listed")]
    Snapshot(#[from] SnapshotError),
    #[error(
        "this process does not see the host's init process: run it in the host's pid namespace (docker: --pid=host)"
    )]
    PidNamespace,
    #[error(transparent)]
    Counts(#[from] CountsError),
}

impl From<ObjectError> for KernelError {
    fn from(error: ObjectError) -> Self {
        if error.is_refusal() {
            Self::Permission(error)
        } else {
            Self::Object(error)
        }
    }
}

/// Why the processes of the host cannot be listed.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
pub enum SnapshotError {
    #[error(transparent)]
    Program(#[from] ProbeError),
    #[error("the kernel's list of processes ended early")]
    Read(#[from] io::Error),
}

/// The options of [`load`].
#[derive(Clone, Debug, Default)]
pub struct TraceOptions {
    /// The mechanisms that the user chose for probes.
    pub mechanisms: Mechanisms,
    /// A directory on a bpffs under which the maps outlive the process.
    pub pin: Option<PathBuf>,
    /// Whether load averages are wanted, for which threads are counted every five seconds.
    pub loads: bool,
}

/// The loaded programs, which are not attached yet.
pub struct Ready {
    object: BpfObject,
    attempts: Vec<Attempt>,
    snapshot: OwnedFd,
    threads: Option<OwnedFd>,
    recheck: Option<OwnedFd>,
    active: Array<MapData, u64>,
    host: Array<MapData, NamespaceInodes>,
    facts: KernelFacts,
}

/// The attached programs. Dropping it detaches them.
pub struct Kernel {
    snapshot: OwnedFd,
    threads: Option<OwnedFd>,
    recheck: Option<OwnedFd>,
    programs: Arc<Programs>,
    links: Vec<OwnedFd>,
    statuses: Vec<ProbeStatus>,
    maps: Vec<(String, OwnedFd)>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("statuses", &self.statuses)
            .finish_non_exhaustive()
    }
}

/// The loaded programs and maps, in the parts that different threads use.
pub struct LoadedKernel {
    /// The programs, ready to be attached.
    pub kernel: Ready,
    /// The counters that the programs keep.
    pub counts: KernelCounts,
    /// The rare ring.
    pub ring: Ring,
    /// The frequent rings.
    pub frequent: Frequent,
    /// Which events the programs send to the frequent rings.
    pub wanted: FrequentDemand,
    /// The programs' own diagnostics; `None` unless debug messages are logged.
    pub log: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// Loads the programs. None of them runs before [`Ready::attach`].
///
/// # Errors
/// The kernel has no type information, is too old, or refuses a map or the program that lists processes. A program of
/// a probe that the kernel refuses is no error: see [`ProbeStatus`].
pub fn load(options: &TraceOptions) -> Result<LoadedKernel, KernelError> {
    // Kernels before 5.11 charge maps and programs to the limit on locked memory. If the limit cannot be raised, the
    // error of the map or program that the kernel refuses says enough.
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let _ = setrlimit(Resource::Memlock, unlimited);
    let mut facts = read_facts()?;
    facts.config.generation = unique();
    facts.config.rings_mask = u64::from(frequent::rings() - 1);
    let mut object = BpfObject::new(&facts, options.pin.as_deref())?;
    let counts = KernelCounts::new(&mut object)?;
    let ring = object.take_ring("RARE")?;
    let ring = Ring::map(ring, RARE_RING_BYTES).map_err(MapError::from)?;
    let frequent = Frequent::new(&mut object);
    let wanted = FrequentDemand::new(&mut object)?;
    let (active, host) = (object.take_map("ACTIVE")?, object.take_map("HOST")?);
    let loader = Loader {
        object: &object,
        facts: &facts,
    };
    let snapshot = load_snapshot(loader)?;
    let threads = load_more(loader, "threads", "processes and tasks will not be counted");
    let recheck = load_more(
        loader,
        "recheck",
        "escapes that no probe sees will not be reported",
    );
    let attempts = begin_all(loader, PROBES, |probe| options.mechanisms.ways(probe));
    let log = log(&attempts);
    let kernel = Ready {
        object,
        attempts,
        snapshot,
        threads,
        recheck,
        active,
        host,
        facts,
    };
    Ok(LoadedKernel {
        kernel,
        counts,
        ring,
        frequent,
        wanted,
        log,
    })
}

/// The hook of the iterators over all tasks: `snapshot`, `threads` and `recheck`.
const SNAPSHOT: Hook = Hook::Iterator("bpf_iter_task");

/// Lists the host's namespaces and every process once, without tracing anything.
///
/// # Errors
/// The kernel has no type information, is too old, or refuses a map or the program. Or this process does not see the
/// host's init process.
pub fn look() -> Result<(NamespaceInodes, Vec<Task>), KernelError> {
    let facts = read_facts()?;
    let object = BpfObject::new(&facts, None)?;
    let loader = Loader {
        object: &object,
        facts: &facts,
    };
    let tasks = snapshot(&load_snapshot(loader)?)?;
    Ok((host_of(&tasks)?, tasks))
}

fn load_snapshot(loader: Loader<'_>) -> Result<OwnedFd, SnapshotError> {
    Ok(loader.load("snapshot", SNAPSHOT)?)
}

/// Loads an iterator that the agent can do without. `lost` says what is lost where the kernel refuses it.
fn load_more(loader: Loader<'_>, name: &'static str, lost: &str) -> Option<OwnedFd> {
    let loaded = loader.load(name, SNAPSHOT);
    let failed = |error: &ProbeError| {
        tracing::warn!("{lost}: {}", agent_model::text::error_line(error));
    };
    loaded.inspect_err(failed).ok()
}

/// Returns the host's namespaces: those of init or kthreadd, which the kernel itself started and which have no parent.
fn host_of(tasks: &[Task]) -> Result<NamespaceInodes, KernelError> {
    let first = tasks.iter().find(|task| task.ppid == 0);
    Ok(first.ok_or(KernelError::PidNamespace)?.namespaces)
}

fn read_facts() -> Result<KernelFacts, KernelError> {
    let btf = std::fs::read(BTF_PATH).map_err(KernelError::NoBtf)?;
    let ways = PROBES.iter().flat_map(|probe| probe.ways);
    let hooks = ways.flat_map(MechanismPrograms::hooks).chain([SNAPSHOT]);
    Ok(config::find(&btf, hooks.filter_map(Hook::name))?)
}

/// A number that no earlier call on this host returned since boot: the time since boot in nanoseconds.
fn unique() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Ready {
    /// Attaches the probes, and returns the attached programs and the host's namespaces.
    ///
    /// Each probe is attached by itself: a probe that cannot be attached leaves the others attached.
    ///
    /// # Errors
    /// This process does not see the host's init process, or the kernel refuses the list of processes or a write to a
    /// map.
    pub fn attach(mut self) -> Result<(Kernel, NamespaceInodes), KernelError> {
        let namespaces = host_of(&snapshot(&self.snapshot)?)?;
        self.host.set(0, namespaces, 0)?;
        self.active.set(0, self.facts.config.generation, 0)?;
        let loader = Loader {
            object: &self.object,
            facts: &self.facts,
        };
        let mut all_programs = Vec::new();
        let mut kernel = Kernel {
            snapshot: self.snapshot,
            threads: self.threads,
            recheck: self.recheck,
            programs: Arc::new(Programs::new(Vec::new())),
            links: Vec::new(),
            statuses: Vec::new(),
            maps: Vec::new(),
        };
        for attempt in self.attempts {
            let (status, Attached { programs, links }) = attempt.attach(loader);
            let programs = programs.into_iter().map(|program| (status.probe, program));
            all_programs.extend(programs);
            kernel.links.extend(links);
            kernel.statuses.push(status);
        }
        kernel.programs = Arc::new(Programs::new(all_programs));
        let maps = self.object.descriptors.into_iter();
        // The names of the compiler's own sections begin with a dot.
        kernel.maps = maps.filter(|(name, _)| !name.starts_with('.')).collect();
        Ok((kernel, namespaces))
    }
}

impl Kernel {
    /// Lists every process of the host, in its present state.
    ///
    /// # Errors
    /// The kernel refuses the task iterator, or its list cannot be read.
    pub fn snapshot(&self) -> Result<Vec<Task>, KernelError> {
        Ok(snapshot(&self.snapshot)?)
    }

    /// The program that lists all threads, for [`threads::all`]; `None` if the kernel refused to load it.
    pub fn threads(&self) -> Option<&OwnedFd> {
        self.threads.as_ref()
    }

    /// The program that checks all processes for escapes; `None` if the kernel refused to load it.
    pub fn recheck(&self) -> Option<&OwnedFd> {
        self.recheck.as_ref()
    }

    /// Whether and how each probe is attached.
    pub fn statuses(&self) -> &[ProbeStatus] {
        &self.statuses
    }

    /// The programs of the attached probes.
    pub fn programs(&self) -> Arc<Programs> {
        Arc::clone(&self.programs)
    }

    /// The descriptor of each map, by its name.
    pub fn maps(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        let maps = self.maps.iter();
        maps.map(|(name, descriptor)| (name.as_str(), descriptor.as_fd()))
    }
}

fn snapshot(program: &OwnedFd) -> Result<Vec<Task>, SnapshotError> {
    let mut bytes = Vec::new();
    agent_sys::bpf::iterate(program.as_fd())?.read_to_end(&mut bytes)?;
    let tasks = bytes.chunks_exact(size_of::<Task>());
    Ok(tasks.filter_map(agent_sys::from_bytes).collect())
}

/// Opens the log of the programs' diagnostics, if debug messages are logged.
fn log(attempts: &[Attempt]) -> Option<EbpfLogger<&'static dyn log::Log>> {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return None;
    }
    let ids = attempts
        .iter()
        .flat_map(Attempt::programs)
        .filter_map(|program| {
            let [id] = fdinfo::numbers(Path::new("/"), program.as_fd(), ["prog_id:"]).ok()?;
            id
        });
    // Only some programs have diagnostics.
    ids.filter_map(|id| EbpfLogger::init_from_id(id as u32).ok())
        .next()
}
