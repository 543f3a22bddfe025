//! The flags of `agent run`: docker's, where docker has them.

use std::path::PathBuf;

use clap::{Args as _, FromArgMatches as _};

use super::mounts::{Tmpfs, Volume};
use super::namespaces::{Net, Share, UserChoice};
use super::security::{SecurityOption, Ulimit};
use super::value::{
    Assignment, Cpus, DeviceRate, IdRange, LogOption, MaybeNumber, MaybeSize, Set, Size,
    TimeOffset, number_in,
};
use crate::units::Signal;

/// What a bundle says itself.
const NOT_WITH_BUNDLE: [&str; 48] = [
    "command",
    "read_only",
    "volume",
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

/// What a person wrote.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// The command and its arguments; with --image, by default the image's own
    #[arg(
        value_name = "COMMAND",
        // What comes behind the command is the command's; before it, a flag that there is not is a mistake.
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
    /// Those that nothing was given for: private namespaces and no limits.
    ///
    /// # Errors
    /// None, but that of an argument whose default is no value of it.
    pub fn none() -> Result<Self, clap::Error> {
        let command = Self::augment_args(clap::Command::new("run").no_binary_name(true));
        let command = command.disable_help_flag(true);
        Self::from_arg_matches(&command.try_get_matches_from([""; 0])?)
    }
}

/// What the container's files are.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Root file system (one of the first four)")]
pub struct RootFlags {
    /// The tree in this directory; host: this host's tree, read-only, with a /tmp of its own
    #[arg(long, value_name = "DIR|host", group = "source")]
    pub rootfs: Option<PathBuf>,
    /// These programs and the libraries that they need, on a tmpfs: bash,ls,stress-ng
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', group = "source")]
    pub bin: Vec<PathBuf>,
    /// A tar archive by docker save, or of an OCI layout, or a pipe with one; in memory where it takes at
    /// most a quarter of -m, else on disk; what is written to it is thrown away
    #[arg(long, value_name = "FILE", group = "source")]
    pub image: Option<PathBuf>,
    /// An OCI bundle: all is in DIR/config.json, but for --name, -d, -i, --rm and --cgroup-parent
    #[arg(long, value_name = "DIR", group = "source", conflicts_with_all = NOT_WITH_BUNDLE)]
    pub bundle: Option<PathBuf>,
    /// Let nothing be written to it
    #[arg(long)]
    pub read_only: bool,
    /// Show a file or directory of the host in it; OPTIONS: ro, rw, and how mounts made below it
    /// spread: private (default: rprivate), slave (of the host), shared, with r in front: recursively
    #[arg(short, long, value_name = "SRC:DST[:OPTIONS]")]
    pub volume: Vec<Volume>,
    /// An empty file system in memory; OPTIONS as of mount(8): size=64m, mode=1777, ro, exec
    #[arg(long, value_name = "DST[:OPTIONS]")]
    pub tmpfs: Vec<Tmpfs>,
    /// How large /dev/shm is
    #[arg(long, value_name = "BYTES", default_value = "64m")]
    pub shm_size: Size,
    /// Change the root with chroot(2), to see what that leaves open: nothing but the path is
    /// changed, and who has CAP_SYS_CHROOT leaves it
    #[arg(long)]
    pub chroot: bool,
}

/// How it runs, and what becomes of it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "How it runs")]
pub struct Manner {
    /// What it is called: letters, digits, _, . and -; by default a word and a number
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Return once it runs; agent logs, exec, wait and stop take it from there
    #[arg(short, long)]
    pub detach: bool,
    /// Give it this command's standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// How much is kept of what a detached one writes: max-size=BYTES (64k to 1t, by default 10m) in
    /// each of max-file=NUMBER files (1 to 1000, by default 3)
    #[arg(long, value_name = "NAME=VALUE")]
    pub log_opt: Vec<LogOption>,
    /// Keep nothing of a detached one once it has ended, also not its log and exit status
    #[arg(long)]
    pub rm: bool,
    /// The signal by which agent stop asks it to end; by default the image's, else SIGTERM
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<Signal>,
    /// Make pid 1 a program that passes signals on and buries the dead, and the command its child
    #[arg(long)]
    pub init: bool,
    /// Print the OCI configuration that the flags come to, and run nothing
    #[arg(long)]
    pub print_spec: bool,
}

/// The process.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Process")]
pub struct ProcessFlags {
    /// Set a variable; NAME alone passes this command's own on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// The directory it starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Who it runs as; names are those of the container's /etc/passwd and /etc/group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// One more group that it is in
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Run this before the command's words, instead of what the image says; "": nothing
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// A limit of the process itself (getrlimit(2)), up to this command's own hard limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<Ulimit>,
    /// Who goes first when memory is short: -1000 (never) to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = number_in(-1000..=1000_i32))]
    pub oom_score_adj: Option<i32>,
}

/// Namespaces: what it has of its own.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Namespaces (private, host, container:NAME, ns:PATH)")]
pub struct NamespaceFlags {
    /// Processes: whom it sees, and who is pid 1
    #[arg(long, value_name = "WHOSE", default_value = "private")]
    pub pid: Share,
    /// System V IPC and message queues; host: its /dev/shm too
    #[arg(long, value_name = "WHOSE", default_value = "private")]
    pub ipc: Share,
    /// Host name
    #[arg(long, value_name = "WHOSE", default_value = "private")]
    pub uts: Share,
    /// Which cgroup looks like the root
    #[arg(long, value_name = "WHOSE", default_value = "private")]
    pub cgroupns: Share,
    /// Clocks: monotonic and boottime
    #[arg(long, value_name = "WHOSE", conflicts_with = "time_offset")]
    pub time: Option<Share>,
    /// Set clocks forth or back, in a time namespace of its own: 1d, monotonic=-2h, boottime=90.5
    #[arg(long, value_name = "[CLOCK=]OFFSET", allow_hyphen_values = true)]
    pub time_offset: Vec<TimeOffset>,
    /// Users: private with --uid-map; auto: private, with what /etc/subuid and /etc/subgid allow
    #[arg(long, value_name = "WHOSE|auto")]
    pub userns: Option<UserChoice>,
    /// Which user ids it has, in a user namespace of its own
    #[arg(long, value_name = "INSIDE:HOST:COUNT")]
    pub uid_map: Vec<IdRange>,
    /// Which group ids; by default the same as users
    #[arg(long, value_name = "INSIDE:HOST:COUNT")]
    pub gid_map: Vec<IdRange>,
    /// Its host name; by default its name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// A setting of the kernel that namespaces have of their own: net.*, kernel.shm*, kernel.msg*,
    /// kernel.sem, fs.mqueue.*
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<Assignment>,
}

/// What its network is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkFlags {
    /// none: nothing but loopback; veth: eth0, its peer on the host; or whose it shares: host,
    /// container:NAME, ns:PATH (as of ip netns: ns:/run/netns/NAME)
    #[arg(
        long,
        visible_alias = "network",
        value_name = "KIND",
        default_value = "none"
    )]
    pub net: Net,
    /// The address of eth0: 10.0.3.2/24
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    pub ip: Option<super::namespaces::Address>,
    /// The bridge that eth0's peer is in, so that containers reach each other; made where there is
    /// none, and removed after its last container
    #[arg(long, value_name = "NAME")]
    pub bridge: Option<String>,
}

/// Limits of its cgroup.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits (of its cgroup; v1 file, v2 file)")]
pub struct Limits {
    /// Memory; and together with swap twice as much (memory.limit_in_bytes, memory.max)
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<Size>,
    /// Memory and swap together; -1: no limit (memory.memsw.limit_in_bytes, memory.swap.max)
    #[arg(long, value_name = "BYTES|-1", allow_negative_numbers = true)]
    pub memory_swap: Option<MaybeSize>,
    /// Memory that it keeps when the host is short of it (memory.soft_limit_in_bytes, memory.low)
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<Size>,
    /// Memory above which it is slowed down (v2 only: memory.high)
    #[arg(long, value_name = "BYTES")]
    pub memory_high: Option<Size>,
    /// CPU time each second, in CPUs (cpu.cfs_quota_us, cpu.max)
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<Cpus>,
    /// Microseconds of CPU time in each period; -1: no limit (cpu.cfs_quota_us, cpu.max)
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub cpu_quota: Option<MaybeNumber>,
    /// The period, 1000 to 1000000 (cpu.cfs_period_us, cpu.max)
    #[arg(long, value_name = "MICROSECONDS", value_parser = number_in(1_000..=1_000_000_u64))]
    pub cpu_period: Option<u64>,
    /// Its share where CPU time is short, 2 to 262144; others have 1024 (cpu.shares; on v2 turned
    /// into cpu.weight)
    #[arg(short = 'c', long, value_name = "NUMBER", value_parser = number_in(2..=262_144_u64))]
    pub cpu_shares: Option<u64>,
    /// The same as v2 says it, 1 to 10000; others have 100 (cpu.weight; on v1 turned
    /// into cpu.shares)
    #[arg(long, value_name = "NUMBER", value_parser = number_in(1..=10_000_u64))]
    pub cpu_weight: Option<u64>,
    /// Which CPUs: 0-3,8 (cpuset.cpus)
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<Set>,
    /// Which memory nodes (cpuset.mems)
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<Set>,
    /// Processes and threads; -1: no limit (pids.max)
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
    /// The cgroup below which its own is, PATH/agent/NAME instead of /agent/NAME
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<PathBuf>,
}

/// What its processes may.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Security")]
pub struct Security {
    /// One more capability than docker's default 14: NET_ADMIN; ALL: those that this command has
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<super::security::CapabilityName>,
    /// One capability less; ALL: none but those of --cap-add
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<super::security::CapabilityName>,
    /// seccomp=unconfined or seccomp=FILE (docker's JSON): instead of docker's default system
    /// calls; no-new-privileges=false: let set-user-ID programs work; systempaths=unconfined: show
    /// all of /proc and /sys
    #[arg(long, value_name = "NAME=VALUE")]
    pub security_opt: Vec<SecurityOption>,
}
