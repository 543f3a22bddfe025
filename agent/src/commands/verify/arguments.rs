//! The arguments of `agent verify`, and its forms.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use agent_runtime::spec::flags::Limits;
use agent_runtime::spec::value::number_in;
use agent_stream::socket;
use agent_stream::value::{parse_container, parse_pid};
use agent_verify::suite::SuiteJob;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use crate::commands::engine::EngineArgs;
use crate::commands::screen::Output;

/// The most columns of a report for people.
pub(super) const COLUMNS: usize = 80;

const EXAMPLES: &str = "\
Examples:
  agent verify --memory 150M -- stress-ng --vm 1 --vm-bytes 300M --vm-keep --timeout 10s
  agent verify --cpus 0.5 --pids-limit 50 --for 5s -- stress-ng --cpu 4
  agent verify --weights 100:300 -- stress-ng --cpu 1
  agent verify --container web                      intended against effective limits
  agent verify --container web --for 10s            the same, and ten seconds of observation
  agent verify --container web.service              a unit of systemd
  agent verify --cgroup /batch --expect memory=2g --expect cpus=1.5
  agent verify --suite                              stress-ng against every controller

For each limit the report shows the intended value, the written one, the one that the kernel keeps,
the effective limit with all cgroups above, and what the kernel counted in the run. A limit is
inconclusive where the workload did not press against it, where its intended value is not known,
or where a file cannot be read, which is named. The intended value comes from --expect, docker,
or a running agent serve.

The limits of the caller must hold for an ordinary user's container as well. Such a limit passes
where the container is at or below the cgroup that has it, else it fails. For root a note names
the limits that the container is not under.

Exit status: 0 pass; 1 fail; 2 inconclusive, or nothing could be judged; 64 for wrong arguments.";

const USAGE: &str = "agent verify LIMITS... [--for TIME] [--] COMMAND [ARG]...
       agent verify --weights N:N[:N...] [--for TIME] [--] COMMAND [ARG]...
       agent verify --container NAME|--pid N|--cgroup PATH [--expect LIMIT=VALUE]... [--for TIME]
       agent verify --suite [memory,cpu,weight,pids,io]";

/// The arguments that make no sense for a cgroup that exists already.
const NOT_WHERE_IT_STANDS: [&str; 21] = [
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
    "cgroup_parent",
    "rootfs",
    "bin",
    "image",
    "volume",
];

/// Prove that limits hold, or say why not
///
/// Runs a command under limits, or observes a container, process or cgroup that exists. Gives a verdict,
/// with the kernel's own numbers as evidence. Needs root; an ordinary user can verify limits in delegated
/// cgroups.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = EXAMPLES,
    override_usage = USAGE,
    group = clap::ArgGroup::new("what").required(true).args(["command", "container", "pid", "cgroup", "suite"]),
    group = clap::ArgGroup::new("standing").args(["container", "pid", "cgroup"])
)]
pub struct Args {
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub command: Vec<String>,

    /// How long to observe: 500ms, 10s; a command is killed then. By default until the command ends; with
    /// --weights 10s
    #[arg(long = "for", value_name = "TIME", value_parser = agent_model::units::parse::duration)]
    pub time: Option<Duration>,

    /// Run the command once in each of several sibling cgroups with these CPU weights (1 to 10000),
    /// on one CPU, and judge how they share it
    #[arg(
        long,
        value_name = "N:N",
        requires = "command",
        conflicts_with_all = ["suite", "standing"]
    )]
    pub weights: Option<Weights>,

    /// Built-in jobs of stress-ng, one for each controller
    #[arg(
        long,
        value_name = "JOBS",
        num_args = 0..=1,
        default_missing_value = "memory,cpu,weight,pids,io",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(SuiteJob::NAMES).try_map(|name| name.parse::<SuiteJob>()),
        conflicts_with_all = NOT_WHERE_IT_STANDS
    )]
    pub suite: Option<Vec<SuiteJob>>,

    /// Verify a running container, by name or id, or a unit of systemd, by name, against the limits that its
    /// engine or systemd was asked for
    #[arg(long, value_name = "NAME|ID", value_parser = parse_container, conflicts_with_all = NOT_WHERE_IT_STANDS)]
    pub container: Option<String>,

    /// Verify the cgroups of this process
    #[arg(long, value_name = "PID", value_parser = parse_pid, conflicts_with_all = NOT_WHERE_IT_STANDS)]
    pub pid: Option<NonZeroU32>,

    /// Verify a cgroup: its path as in /proc/PID/cgroup, which is looked up in the hierarchy of each limit,
    /// or the path of its directory
    #[arg(long, value_name = "PATH", conflicts_with_all = NOT_WHERE_IT_STANDS)]
    pub cgroup: Option<PathBuf>,

    /// The intended value of a limit, named by a flag below: memory=150M
    #[arg(long, value_name = "LIMIT=VALUE", requires = "standing")]
    pub expect: Vec<String>,

    /// human: lines of evidence; json: one object
    #[arg(
        long,
        value_name = "human|json",
        default_value = "human",
        hide_possible_values = true
    )]
    pub output: Output,

    /// The unix socket of agent serve, which reports traced OOM kills; off: ask no server
    #[arg(long, value_name = "PATH|off", env = socket::VARIABLE, default_value = socket::DEFAULT, value_parser = crate::commands::socket::asked())]
    pub socket: PathBuf,

    #[command(flatten)]
    pub engine: EngineArgs,

    /// The files in this directory; host: this host's files, read-only, with a /tmp of its own
    #[arg(
        long,
        value_name = "DIR|host",
        group = "source",
        help_heading = "Root file system"
    )]
    pub rootfs: Option<PathBuf>,
    /// These programs and the libraries that they need
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        group = "source",
        help_heading = "Root file system"
    )]
    pub bin: Vec<PathBuf>,
    /// A tar archive by docker save, or of an OCI layout
    #[arg(
        long,
        value_name = "FILE",
        group = "source",
        help_heading = "Root file system"
    )]
    pub image: Option<PathBuf>,
    /// Bind-mount a file or directory of the host into it
    #[arg(
        short,
        long,
        value_name = "SRC:DST[:OPTIONS]",
        help_heading = "Root file system"
    )]
    pub volume: Vec<agent_runtime::spec::Volume>,

    #[command(flatten)]
    pub limits: Limits,
}

/// CPU weights of siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights(pub Vec<u64>);

impl FromStr for Weights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let weight = number_in(1..=10_000_u64);
        let weights: Result<Vec<u64>, _> = text.split(':').map(weight).collect();
        match weights {
            Ok(weights) if (2..=8).contains(&weights.len()) => Ok(Self(weights)),
            _ => Err("wanted: two to eight weights of 1 to 10000, as 100:300".to_owned()),
        }
    }
}

/// The form of a verification.
pub enum Form<'a> {
    Launch,
    Weights(&'a Weights),
    Suite(&'a [SuiteJob]),
    Standing(Target<'a>),
}

/// A target that exists already.
pub enum Target<'a> {
    Container(&'a str),
    Process(u32),
    Cgroup(&'a std::path::Path),
}

impl Args {
    pub fn form(&self) -> Form<'_> {
        if let Some(jobs) = &self.suite {
            return Form::Suite(jobs);
        }
        if let Some(name) = &self.container {
            return Form::Standing(Target::Container(name));
        }
        if let Some(pid) = self.pid {
            return Form::Standing(Target::Process(pid.get()));
        }
        if let Some(path) = &self.cgroup {
            return Form::Standing(Target::Cgroup(path));
        }
        match &self.weights {
            Some(weights) => Form::Weights(weights),
            None => Form::Launch,
        }
    }
}
