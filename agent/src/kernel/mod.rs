//! The kernel side, loaded: which probe runs by which mechanism, the ring, the counters.

pub mod btf;
pub mod config;
pub mod counts;
pub mod frequent;
pub mod probes;

use std::{
    io::{self, Read as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use agent_ebpf::{Namespaces, Task};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, Map, MapData, MapError, RingBuf},
    programs::Iter,
};
use aya_log::EbpfLogger;

use crate::sys;
use config::{ConfigError, Facts};
use counts::{CountsError, KernelCounts};
use frequent::{Frequent, Wanted};
use probes::{Mechanism, PROBES, ProbeError, State, Status};

/// Where the kernel shows its type information.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// The BPF object that the build made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/agent-ebpf"));

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
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
    Permission(#[source] EbpfError),
    #[error("the BPF programs cannot be loaded")]
    Load(#[source] EbpfError),
    #[error(
        "--pin-path {0}: maps cannot be pinned here; pass a directory on a bpffs (mount -t bpf bpf /sys/fs/bpf)"
    )]
    Pin(PathBuf, #[source] io::Error),
    #[error("a BPF map cannot be used")]
    Map(#[from] MapError),
    #[error("the processes of the host cannot be listed")]
    Snapshot(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "this process does not see the host's first process: run it in the host's pid namespace (docker: --pid=host)"
    )]
    PidNamespace,
    #[error(transparent)]
    Counts(#[from] CountsError),
}

/// Whether to attach probes that every system call of the host pays for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SyscallProbes {
    /// Where nothing cheaper loads.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: unshare and setns go unseen where nothing cheaper loads.
    Off,
}

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub syscall_probes: SyscallProbes,
    /// A directory on a bpffs under which the maps outlive the process.
    pub pin: Option<PathBuf>,
}

/// Maps whose contents a later process goes on with.
const PINNED: &[&str] = &[
    "ACTIVE",
    "BASELINES",
    "COUNTS",
    "FIRSTS",
    "INITS",
    "KILLS",
    "OOM_KILLS",
];

/// Maps whose kernel memory is exported.
const MAPS: &[&str] = &[
    "ACTIVE",
    "AYA_LOGS",
    "BASELINES",
    "COUNTS",
    "ESCAPED",
    "EXCLUDED",
    "FIRSTS",
    "FREQUENT",
    "HOST",
    "INITS",
    "KILLS",
    "OOM_KILLS",
    "OUTCOMES",
    "PENDING",
    "RARE",
    "STRANGERS",
    "WANTED",
];

/// The loaded programs. Dropping it detaches them.
pub struct Kernel {
    ebpf: Ebpf,
    kept: Vec<OwnedFd>,
    active: Array<MapData, u64>,
    host: Array<MapData, Namespaces>,
    statuses: Vec<Status>,
    maps: Vec<(&'static str, OwnedFd)>,
    facts: Facts,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("statuses", &self.statuses)
            .finish_non_exhaustive()
    }
}

/// What comes of loading, in the parts that different threads use.
pub struct Loaded {
    pub kernel: Kernel,
    pub counts: KernelCounts,
    pub ring: RingBuf<MapData>,
    pub frequent: Frequent,
    pub wanted: Wanted,
    /// The programs' own diagnostics.
    pub log: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// Loads the programs; nothing runs before [`Kernel::attach`].
///
/// # Errors
/// Where the kernel has no type information, or refuses.
pub fn load(options: &Options) -> Result<Loaded, KernelError> {
    let btf = std::fs::read(BTF_PATH).map_err(KernelError::NoBtf)?;
    let mut facts = config::find(&btf)?;
    drop(btf);
    facts.config.generation = generation();
    let mut loader = EbpfLoader::new();
    loader.override_global("CONFIG", sys::as_bytes(&facts.config), true);
    if let Some(directory) = &options.pin {
        make_pin_directory(directory)
            .map_err(|error| KernelError::Pin(directory.clone(), error))?;
        for map in PINNED {
            loader.map_pin_path(map, directory.join(map));
        }
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| match &error {
        EbpfError::MapError(MapError::CreateError { io_error, .. })
            if io_error.kind() == io::ErrorKind::PermissionDenied =>
        {
            KernelError::Permission(error)
        }
        _ => KernelError::Load(error),
    })?;
    let maps = map_descriptors(&ebpf)?;
    let active = required(&mut ebpf, "ACTIVE")?;
    let host = required(&mut ebpf, "HOST")?;
    let ring = required(&mut ebpf, "RARE")?;
    let counts = KernelCounts::new(&mut ebpf)?;
    let frequent = Frequent::new(&mut ebpf)?;
    let wanted = Wanted::new(&mut ebpf)?;
    let log = EbpfLogger::init(&mut ebpf).ok();
    let kernel = Kernel {
        ebpf,
        kept: Vec::new(),
        active,
        host,
        statuses: Vec::new(),
        maps,
        facts,
    };
    Ok(Loaded {
        kernel,
        counts,
        ring,
        frequent,
        wanted,
        log,
    })
}

/// Makes the directory, on a bpffs and nowhere else.
fn make_pin_directory(directory: &Path) -> io::Result<()> {
    /// `include/uapi/linux/magic.h`
    const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
    let directory = std::path::absolute(directory)?;
    let there = directory.ancestors().find(|it| it.exists());
    let there = rustix::fs::statfs(there.unwrap_or(&directory))?;
    if there.f_type as u32 != BPF_FS_MAGIC {
        return Err(io::Error::other("this is no bpffs"));
    }
    std::fs::create_dir_all(directory)
}

/// A number that no other load on this host has: the time since boot.
fn generation() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn required<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, KernelError> {
    let map = ebpf.take_map(name).ok_or(CountsError::NoMap(name))?;
    Ok(T::try_from(map)?)
}

fn map_descriptors(ebpf: &Ebpf) -> Result<Vec<(&'static str, OwnedFd)>, KernelError> {
    let mut descriptors = Vec::new();
    for name in MAPS {
        let Some(map) = ebpf.map(name) else { continue };
        let (Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)) = map
        else {
            continue;
        };
        let descriptor = data.fd().as_fd().try_clone_to_owned();
        descriptors.push((*name, descriptor.map_err(MapError::from)?));
    }
    Ok(descriptors)
}

impl Kernel {
    /// Attaches each probe on its own, one that fails leaves the others, and tells the namespaces
    /// of the host.
    ///
    /// # Errors
    /// Where the host's first process cannot be seen.
    pub fn attach(&mut self, options: &Options) -> Result<Namespaces, KernelError> {
        // Large, and of no use once the programs are loaded.
        let btf =
            aya::Btf::from_sys_fs().map_err(|error| KernelError::NoBtf(io::Error::other(error)))?;
        let snapshot = probes::find::<Iter>(&mut self.ebpf, "snapshot");
        snapshot
            .and_then(|program| Ok(program.load("task", &btf)?))
            .map_err(|error| KernelError::Snapshot(error.into()))?;
        // init and kthreadd, which the kernel itself started.
        let first = self.snapshot()?.into_iter().find(|task| task.ppid == 0);
        let host = first.ok_or(KernelError::PidNamespace)?.namespaces;
        self.host.set(0, host, 0)?;
        self.active.set(0, self.facts.config.generation, 0)?;
        for probe in PROBES {
            let state = if probe.mechanism == Mechanism::Syscall
                && options.syscall_probes == SyscallProbes::Off
            {
                State::Off
            } else if probe.name == "oom" && !self.facts.mark_victim_gives_task {
                State::from(&ProbeError::Prototype)
            } else {
                match probes::attach(&mut self.ebpf, &btf, probe) {
                    Ok(kept) => {
                        self.kept.extend(kept);
                        State::Attached
                    }
                    Err(error) => {
                        tracing::debug!(probe = probe.name, ?error, "not attached");
                        State::from(&error)
                    }
                }
            };
            self.statuses.push(Status {
                probe: probe.name,
                mechanism: probe.mechanism,
                state,
                loss: probe.loss,
            });
        }
        Ok(host)
    }

    /// Every process of the host, as it is now.
    ///
    /// # Errors
    /// Where the kernel refuses the task iterator.
    pub fn snapshot(&mut self) -> Result<Vec<Task>, KernelError> {
        let bytes = self.read_snapshot().map_err(KernelError::Snapshot)?;
        Ok(bytes
            .chunks_exact(size_of::<Task>())
            .filter_map(sys::from_bytes)
            .collect())
    }

    fn read_snapshot(&mut self) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let program: &mut Iter = probes::find(&mut self.ebpf, "snapshot")?;
        let link = program.attach()?;
        let mut file = program.take_link(link)?.into_file()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// What became of each probe.
    pub fn statuses(&self) -> &[Status] {
        &self.statuses
    }

    /// The descriptors of the programs of each attached probe, by the probe's name.
    pub fn programs(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        PROBES.iter().flat_map(|probe| {
            let programs = probe.programs.iter();
            programs.filter_map(|(program, _)| {
                let descriptor = self.ebpf.program(program)?.fd().ok()?;
                Some((probe.name, descriptor.as_fd()))
            })
        })
    }

    /// The descriptor of each map, by its name.
    pub fn maps(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        self.maps
            .iter()
            .map(|(name, descriptor)| (*name, descriptor.as_fd()))
    }
}
