//! The flags of `agent run`. They have docker's names where docker has such a flag.

use std::path::PathBuf;

use agent_model::units::Signal;
use agent_model::units::parse::Size;
use clap::{Args as _, FromArgMatches as _};

use super::value::{
    AskedMount, Assignment, Cpus, DeviceMap, DeviceRate, IdMap, LogOption, MaybeNumber, MaybeSize,
    NamespaceShare, Net, SecurityOption, Set, TimeOffset, Tmpfs, Ulimit, UserChoice, Volume,
    number_in,
};

/// The flags that conflict with `--bundle`: the bundle's configuration replaces them.
const NOT_WITH_BUNDLE: [&str; 53] = [
    "command",
    "read_only",
    "volume",
    "mount",
    "label",
    "env_file",
    "privileged",
    "device",
    "tmpfs",
    "shm_size",
    "chroot",
    "tty",
    "env",
    "workdir",
    "user",
    "group_add",
    "entrypoint",
    "ulimit",
    "oom_score_adj",
    "pid",
    "ipc",
    "uts",
    "cgroupns",
    "time",
    "time_offset",
    "userns",
    "uid_map",
    "gid_map",
    "hostname",
    "sysctl",
    "net",
    "ip",
    "bridge",
    "memory",
    "memory_swap",
    "memory_reservation",
    "memory_high",
    "cpus",
    "cpu_quota",
    "cpu_period",
    "cpu_shares",
    "cpu_weight",
    "cpuset_cpus",
    "cpuset_mems",
    "pids_limit",
    "device_read_bps",
    "device_write_bps",
    "device_read_iops",
    "device_write_iops",
    "cap_add",
    "cap_drop",
    "security_opt",
    "init",
];

/// The flags of `agent run` as the user wrote them.
#[allow(missing_docs, reason = "clap prints the doc of a flattened field")]
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// The command and its arguments; with --image, by default the image's own
    #[arg(
        value_name = "COMMAND",
        // All arguments after the command belong to the command. An unknown flag before it is an error.
        trailing_var_arg = true
    )]
    pub command: Vec<String>,

    #[command(flatten)]
    pub root: RootFlags,
    #[command(flatten)]
    pub manner: Manner,
    #[command(flatten)]
    pub process: ProcessFlags,
    #[command(flatten)]
    pub namespaces: NamespaceFlags,
    #[command(flatten)]
    pub network: NetworkFlags,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub security: Security,
}

impl Flags {
    /// The flags of an empty command line: private namespaces and no limits.
    ///
    /// # Errors
    /// The default of a flag is not a valid value, which is a bug in this program.
    pub fn none() -> Result<Self, clap::Error> {
        let command = Self::augment_args(clap::Command::new("run").no_binary_name(true));
        let command = command.disable_help_flag(true);
        Self::from_arg_matches(&command.try_get_matches_from([""; 0])?)
    }
}

/// The flags of the root file system and its mounts.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Root file system (one of the first four)")]
pub struct RootFlags {
    /// A directory with a root file system; host: this host's files, read-only, with a /tmp of its own
    #[arg(long, value_name = "DIR|host", group = "source")]
    pub rootfs: Option<PathBuf>,
    /// These programs and the libraries that they need, on a tmpfs: bash,ls,stress-ng
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', group = "source")]
    pub bin: Vec<PathBuf>,
    /// A tar archive from docker save or of an OCI layout, or a pipe with one. It is unpacked into memory if it takes
    /// at most a quarter of -m, else on disk. The container's writes are discarded when it ends
    #[arg(long, value_name = "FILE", group = "source")]
    pub image: Option<PathBuf>,
    /// An OCI bundle: DIR/config.json replaces all flags but --name, -d, -i, --rm, --log-opt, --stop-signal,
    /// --print-spec and --cgroup-parent
    #[arg(long, value_name = "DIR", group = "source", conflicts_with_all = NOT_WITH_BUNDLE)]
    pub bundle: Option<PathBuf>,
    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Bind-mount a file or directory of the host. OPTIONS: ro, rw, and the propagation of mounts below it:
    /// private, slave, shared, or recursively rprivate (the default), rslave, rshared
    #[arg(short, long, value_name = "SRC:DST[:OPTIONS]")]
    pub volume: Vec<Volume>,
    /// Mount in the long form: type=bind,source=PATH,target=PATH with readonly and bind-propagation=KIND, or
    /// type=tmpfs,target=PATH with tmpfs-size=BYTES and tmpfs-mode=OCTAL
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub mount: Vec<AskedMount>,
    /// Mount an empty tmpfs; OPTIONS as for mount(8): size=64m, mode=1777, ro, exec
    #[arg(long, value_name = "DST[:OPTIONS]")]
    pub tmpfs: Vec<Tmpfs>,
    /// The size of /dev/shm
    #[arg(long, value_name = "BYTES", default_value = "64m")]
    pub shm_size: Size,
    /// Change the root with chroot(2), to see what that leaves open: only paths change, and a process with
    /// CAP_SYS_CHROOT can leave it
    #[arg(long)]
    pub chroot: bool,
}

/// The flags of the container's life: name, streams, log, end.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "How it runs")]
pub struct Manner {
    /// The name of the container: letters, digits, _, . and -; by default two words and a number
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A label, for people and other programs; it is also an annotation of the OCI configuration
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Return once the container runs; use agent logs, exec, wait and stop afterwards
    #[arg(short, long)]
    pub detach: bool,
    /// Pass this command's standard input on to the container
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The size of a detached container's log: max-size=BYTES (64k to 1t, by default 10m) in each of
    /// max-file=NUMBER files (1 to 1000, by default 3)
    #[arg(long, value_name = "NAME=VALUE")]
    pub log_opt: Vec<LogOption>,
    /// Remove a detached container, its log and its exit status when it has ended
    #[arg(long)]
    pub rm: bool,
    /// The signal that agent stop sends; by default the image's, else SIGTERM
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<Signal>,
    /// Run the command as a child of a pid 1 that passes signals on and reaps orphans
    #[arg(long)]
    pub init: bool,
    /// Print the OCI configuration that the flags result in, and run nothing
    #[arg(long)]
    pub print_spec: bool,
}

/// The flags of the process.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Process")]
pub struct ProcessFlags {
    /// Set an environment variable; NAME alone takes its value from the caller's environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Set the variables in this file, one on each line in the form of --env, which overrides them; # begins a comment
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// The user and group of the process: numbers, or names in the container's /etc/passwd and /etc/group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// A further group of the process
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// The program to put before the command, in place of the image's entry point; "": none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// A resource limit of the process (getrlimit(2)), up to this command's own hard limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<Ulimit>,
    /// The preference of the OOM killer for this container: -1000 (never) to 1000 (first)
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = number_in(-1000..=1000_i32))]
    pub oom_score_adj: Option<i32>,
}

/// The flags of namespaces.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Namespaces (private, host, container:NAME, ns:PATH)")]
pub struct NamespaceFlags {
    /// The pid namespace: the processes that the container sees, and its pid 1
    #[arg(long, value_name = "WHOSE", default_value = "private")]
    pub pid: NamespaceShare,
    /// The ipc namespace: System V IPC and message queues; host: its /dev/shm too
    #[arg(long, value_name = "WHOSE", default_value = "private")]
    pub ipc: NamespaceShare,
    /// The uts namespace: the host name
    #[arg(long, value_name = "WHOSE", default_value = "private")]
    pub uts: NamespaceShare,
    /// The cgroup namespace: the cgroup that the container sees as the root
    #[arg(long, value_name = "WHOSE", default_value = "private")]
    pub cgroupns: NamespaceShare,
    /// The time namespace: the clocks monotonic and boottime
    #[arg(long, value_name = "WHOSE", conflicts_with = "time_offset")]
    pub time: Option<NamespaceShare>,
    /// Shift clocks in a new time namespace: 1d, monotonic=-2h, boottime=90.5
    #[arg(long, value_name = "[CLOCK=]OFFSET", allow_hyphen_values = true)]
    pub time_offset: Vec<TimeOffset>,
    /// The user namespace: private with --uid-map; auto: private, with the ids of /etc/subuid and /etc/subgid
    #[arg(long, value_name = "WHOSE|auto")]
    pub userns: Option<UserChoice>,
    /// Map user ids, in a new user namespace
    #[arg(long, value_name = "INSIDE:HOST:COUNT")]
    pub uid_map: Vec<IdMap>,
    /// Map group ids; by default as --uid-map
    #[arg(long, value_name = "INSIDE:HOST:COUNT")]
    pub gid_map: Vec<IdMap>,
    /// The host name; by default the container's name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// A kernel setting of the container's own namespaces: net.*, kernel.shm*, kernel.msg*, kernel.sem,
    /// fs.mqueue.*
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<Assignment>,
}

/// The flags of the network.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkFlags {
    /// none: loopback only; veth: eth0, with its peer on the host; or a shared network: host,
    /// container:NAME, ns:PATH (of ip netns: ns:/run/netns/NAME)
    #[arg(
        long,
        visible_alias = "network",
        value_name = "KIND",
        default_value = "none"
    )]
    pub net: Net,
    /// The address of eth0: 10.0.3.2/24
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    pub ip: Option<super::value::Address>,
    /// The bridge for eth0's peer, so that containers reach each other; it is made if it is missing, and
    /// removed after its last container
    #[arg(long, value_name = "NAME")]
    pub bridge: Option<String>,
}

/// The flags of limits of the container's cgroup.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits (of its cgroup; v1 file, v2 file)")]
pub struct Limits {
    /// Memory; the limit of memory and swap together is twice as much (memory.limit_in_bytes, memory.max)
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<Size>,
    /// Memory and swap together; -1: no limit (memory.memsw.limit_in_bytes, memory.swap.max)
    #[arg(long, value_name = "BYTES|-1", allow_negative_numbers = true)]
    pub memory_swap: Option<MaybeSize>,
    /// Memory that is protected when the host is short of it (memory.soft_limit_in_bytes, memory.low)
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<Size>,
    /// Memory above which the kernel slows the processes down (v2 only: memory.high)
    #[arg(long, value_name = "BYTES")]
    pub memory_high: Option<Size>,
    /// CPU time, as a number of CPUs (cpu.cfs_quota_us, cpu.max)
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<Cpus>,
    /// Microseconds of CPU time in each period; -1: no limit (cpu.cfs_quota_us, cpu.max)
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub cpu_quota: Option<MaybeNumber>,
    /// The period of the quota, 1000 to 1000000 (cpu.cfs_period_us, cpu.max)
    #[arg(long, value_name = "MICROSECONDS", value_parser = number_in(1_000..=1_000_000_u64))]
    pub cpu_period: Option<u64>,
    /// The share of CPU time under contention, 2 to 262144; the default of cgroups is 1024 (cpu.shares; on
    /// v2 converted to cpu.weight)
    #[arg(short = 'c', long, value_name = "NUMBER", value_parser = number_in(2..=262_144_u64))]
    pub cpu_shares: Option<u64>,
    /// The share of CPU time under contention as a weight of v2, 1 to 10000; the default of cgroups is 100 (cpu.weight;
    /// on v1 converted to cpu.shares)
    #[arg(long, value_name = "NUMBER", value_parser = number_in(1..=10_000_u64))]
    pub cpu_weight: Option<u64>,
    /// The CPUs that may be used: 0-3,8 (cpuset.cpus)
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<Set>,
    /// The memory nodes that may be used (cpuset.mems)
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<Set>,
    /// The number of processes and threads; -1: no limit (pids.max)
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub pids_limit: Option<MaybeNumber>,
    /// Bytes a second read from a device: /dev/sda:1m (blkio.throttle.read_bps_device, io.max)
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_read_bps: Vec<DeviceRate<Size>>,
    /// Bytes a second written to a device (blkio.throttle.write_bps_device, io.max)
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_write_bps: Vec<DeviceRate<Size>>,
    /// Reads a second from a device (blkio.throttle.read_iops_device, io.max)
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_read_iops: Vec<DeviceRate<u64>>,
    /// Writes a second to a device (blkio.throttle.write_iops_device, io.max)
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_write_iops: Vec<DeviceRate<u64>>,
    /// The parent of the container's cgroup: PATH/agent/NAME instead of /agent/NAME
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<PathBuf>,
}

/// The flags of security.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Security")]
pub struct Security {
    /// Give all capabilities that this command has, all devices of the host, and a writable /sys, without a system call
    /// filter and hidden paths: the container can do nearly all that this command can
    #[arg(long)]
    pub privileged: bool,
    /// Give a device of the host, or those in a directory of /dev; ACCESS: r, w and m (mknod), by default rwm
    #[arg(long, value_name = "PATH[:PATH][:ACCESS]")]
    pub device: Vec<DeviceMap>,
    /// Add a capability to docker's default 14: NET_ADMIN; ALL: all that this command has
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<super::value::CapabilityName>,
    /// Remove a capability; ALL: keep none but those of --cap-add
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<super::value::CapabilityName>,
    /// seccomp=unconfined or seccomp=FILE (docker's JSON): instead of docker's default profile;
    /// no-new-privileges=false: let set-user-ID programs work; systempaths=unconfined: show all of /proc and /sys
    #[arg(long, value_name = "NAME=VALUE")]
    pub security_opt: Vec<SecurityOption>,
}
