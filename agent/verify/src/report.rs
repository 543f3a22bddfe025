//! The report of `agent verify`. Its serialization is the JSON of `--output json`.

use agent_model::clock::Moment;
use agent_model::limit::Quantity;
use serde::Serialize;

/// The result of a judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The limit holds, and a workload or the files show it.
    Pass,
    /// The evidence does not suffice.
    Inconclusive,
    /// The limit does not hold.
    Fail,
}

/// The kind of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The files alone.
    Configuration,
    /// The files, and what happened in a run.
    Run,
}

/// The result of one `agent verify`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The worst verdict of the checks.
    pub verdict: Verdict,
    /// Whether a run was observed.
    pub scope: Scope,
    /// What was judged.
    pub subject: ReportSubject,
    /// The command that the agent ran; null where it ran none.
    pub workload: Option<Workload>,
    /// One check for each limit.
    pub checks: Vec<Check>,
    /// The limits that the systemd unit requests and that this report does not judge, as `PROPERTY=VALUE`.
    pub not_judged: Vec<String>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// The cgroup that was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportSubject {
    /// The name of the container, process, cgroup or suite.
    pub name: String,
    /// The cgroup's path; on v1 that of the first hierarchy that has a judged limit.
    pub cgroup: String,
}

/// A command that ran in the subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The exit status, 128+N where signal N killed the command. Null where the agent ended the command after the time
    /// of `--for`.
    pub exit: Option<u8>,
    /// How long it ran.
    pub seconds: f64,
}

/// One limit, from what was intended to what was observed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The flag of `agent run`, without its dashes.
    pub limit: &'static str,
    /// The block device of a rate; absent for other limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Whether the limit is one of the caller's that must bind the workload too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub caller: bool,
    /// Whether the limit follows from another one and was not requested. An inconclusive verdict on such a limit does
    /// not count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_default: bool,
    /// The intended value; null where no source reports one.
    pub intended: Option<Intended>,
    /// The text that the agent wrote to the file; null where another program wrote it.
    pub written: Option<InFile>,
    /// The text that the kernel returns from the file.
    pub read_back: Option<InFile>,
    /// The limit that binds: the cgroup's own, or a tighter one of an ancestor.
    pub effective: Option<Effective>,
    /// Whether the workload pressed against the limit.
    pub stimulus: Option<Stimulus>,
    /// What the kernel counted.
    pub observed: Option<Observed>,
    /// How far the observation may be off.
    pub tolerance: Option<Tolerance>,
    /// The verdict on this limit.
    pub verdict: Verdict,
    /// The reason for the verdict, in one sentence.
    pub reason: String,
}

/// An intended value, and its source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Intended {
    /// The value, with its unit.
    pub value: Quantity,
    /// Who intended it: a flag, an engine, or the caller.
    pub source: String,
    /// The cgroup of the caller, or its ancestor, that has the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// The text of a limit in a file of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InFile {
    /// The path of the file.
    pub file: String,
    /// The text.
    pub text: String,
    /// Why the kernel keeps something else than was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The limit that binds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effective {
    /// The value, with its unit.
    pub value: Quantity,
    /// The cgroup whose limit it is.
    pub cgroup: String,
}

/// Whether the workload came near the limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stimulus {
    /// Whether the workload pressed against the limit.
    pub pressed: bool,
    /// The evidence, in words.
    pub what: String,
}

/// How far off an observation may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tolerance {
    /// The tolerance, with its unit.
    pub value: String,
    /// The reason for it.
    pub why: &'static str,
}

/// What the kernel counted, as differences over the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Observed {
    /// A limit on memory or swap.
    Memory(Memory),
    /// A CPU quota.
    Cpu(Cpu),
    /// A limit on tasks.
    Pids {
        /// The highest number of tasks.
        peak: Option<u64>,
        /// True where the peak is the highest of the samples, as the kernel keeps none.
        peak_sampled: bool,
        /// The forks that the kernel refused.
        refused: Option<u64>,
        /// The forks that the kernel refused in cgroups below without a limit of their own. Null where the kernel
        /// counts them in the cgroup that has the limit.
        refused_below: Option<u64>,
    },
    /// A limit on reads or writes of a block device.
    Rate {
        /// The bytes that were read or written.
        bytes: u64,
        /// The number of operations.
        ios: u64,
        /// The time of the observation.
        seconds: f64,
        /// Bytes or operations in a second, as the limit is.
        rate: f64,
        /// The bytes that the workload's processes caused to be written, with those in the page cache. Null for reads,
        /// and where they are not known.
        dirtied_bytes: Option<u64>,
    },
    /// A set of CPUs.
    Set {
        /// The CPUs that the processes were allowed to use, together.
        allowed: String,
        /// The CPUs that were used; null on v2, which does not count them.
        used: Option<String>,
        /// The CPU time that was used.
        cpu_seconds: Option<f64>,
        /// The number of threads that wanted a CPU at the same time.
        wanting: Option<usize>,
    },
    /// A CPU weight.
    Weight {
        /// The CPU time that was used.
        cpu_seconds: f64,
        /// The CPU time that the weight entitles to.
        expected_seconds: f64,
        /// The used share of all siblings' time, 0 to 1.
        share: f64,
        /// The share that the weight entitles to.
        expected_share: f64,
        /// The time that the processes ran or waited for a CPU, as a multiple of the time of the observation.
        wanting: f64,
    },
}

/// What the kernel counted of memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// The highest memory usage.
    pub peak_bytes: Option<u64>,
    /// True where the peak is the highest of the samples, as the kernel keeps none.
    pub peak_sampled: bool,
    /// How often the limit was hit.
    pub hits: Option<u64>,
    /// The number of OOM kills that the kernel counted.
    pub oom_kills: Option<u64>,
    /// The killed processes, as the agent traced them; null where it did not trace, or the trace has a gap.
    pub victims: Option<Vec<Victim>>,
    /// The highest swap usage.
    pub swap_peak_bytes: Option<u64>,
}

/// A process that the OOM killer chose.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Victim {
    /// The time of the kill.
    pub time: Moment,
    /// The pid in the host's pid namespace.
    pub pid: u32,
    /// The name of the process's main thread.
    pub comm: String,
    /// Whether it was the container's init process.
    pub init: bool,
    /// The cgroup whose limit was hit; null where none was.
    pub limit_owner: Option<String>,
}

/// What the kernel counted of CPU time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cpu {
    /// The CPU time that was used.
    pub cpu_seconds: Option<f64>,
    /// The time of the observation.
    pub seconds: f64,
    /// The average number of CPUs: `cpu_seconds` divided by `seconds`.
    pub cpus: Option<f64>,
    /// The periods of the quota in which the cgroup ran.
    pub periods: Option<u64>,
    /// The periods in which the kernel throttled the cgroup.
    pub throttled_periods: Option<u64>,
    /// How long the kernel throttled it.
    pub throttled_seconds: Option<f64>,
    /// The burst that the quota allows: CPU time that was not used up and may be used later.
    pub burst_seconds: Option<f64>,
}

impl Report {
    /// Makes a report with the verdict of all checks.
    pub(crate) fn new(
        scope: Scope,
        subject: ReportSubject,
        workload: Option<Workload>,
        checks: Vec<Check>,
        notes: Vec<String>,
    ) -> Self {
        Self {
            verdict: Self::overall(&checks),
            scope,
            subject,
            workload,
            checks,
            not_judged: Vec::new(),
            notes,
        }
    }

    /// Returns the worst verdict of the checks that decide. A fail is worse than an inconclusive verdict.
    pub fn overall(checks: &[Check]) -> Verdict {
        let deciding = checks.iter().filter(|check| check.decides());
        let verdicts = deciding.map(|check| check.verdict);
        verdicts.max().unwrap_or(Verdict::Inconclusive)
    }
}

impl Check {
    /// Tells whether the verdict counts for the verdict of the report.
    pub fn decides(&self) -> bool {
        !(self.by_default && self.verdict == Verdict::Inconclusive)
    }
}

impl Verdict {
    /// Returns the name of the verdict in JSON and on screens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        }
    }

    /// Returns the exit status of `agent verify`.
    pub fn status(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Inconclusive => 2,
        }
    }
}
