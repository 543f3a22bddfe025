//! The contract of `agent verify --output json`.

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

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// What files say.
    Configuration,
    /// And what happened.
    Run,
}

/// The result of one `agent verify`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The worst verdict of the checks.
    pub verdict: Verdict,
    /// The kind of evidence.
    pub scope: Scope,
    /// What was judged.
    pub subject: ReportSubject,
    /// What was run; null where nothing was.
    pub workload: Option<Workload>,
    /// One check for each limit.
    pub checks: Vec<Check>,
    /// `PROPERTY=VALUE` of what the systemd unit asks for and nothing here judges: it decides nothing.
    pub not_judged: Vec<String>,
    /// What else one should know.
    pub notes: Vec<String>,
}

/// The cgroup that was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportSubject {
    /// The name of the container, process or cgroup.
    pub name: String,
    /// The cgroup's path; on v1 that of the first hierarchy that has a judged limit.
    pub cgroup: String,
}

/// A command that ran in the subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// As the shell has it; null where it was ended at the end of `--for`.
    pub exit: Option<u8>,
    /// How long it ran.
    pub seconds: f64,
}

/// One limit, from what was intended to what was observed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The flag of `agent run`, without its dashes.
    pub limit: &'static str,
    /// Of a rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Whether it is a limit that the caller is under, and the workload is to be under too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub caller: bool,
    /// Whether it follows from another one, and was not asked for: what cannot be told of it does not decide.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_default: bool,
    /// The intended value; null where no source reports one.
    pub intended: Option<Intended>,
    /// What was written, by the agent; null where somebody else wrote it.
    pub written: Option<InFile>,
    /// What the kernel keeps in the file.
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
    /// One sentence.
    pub reason: String,
}

/// An intended value, and its source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Intended {
    /// The value, with its unit.
    pub value: Quantity,
    /// Who intended it: a flag, an engine, or the caller.
    pub source: String,
    /// The caller's cgroup, or the one above it, that has the limit.
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
    /// Whether it did.
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
    /// Of a limit on memory or swap.
    Memory(Memory),
    /// Of a CPU quota.
    Cpu(Cpu),
    /// Of a limit on tasks.
    Pids {
        /// The highest number of tasks.
        peak: Option<u64>,
        /// True where the peak is the highest of the samples, as the kernel keeps none.
        peak_sampled: bool,
        /// The forks that the kernel refused.
        refused: Option<u64>,
        /// Those in cgroups below without a limit of their own; null where the kernel counts them where the limit is.
        refused_below: Option<u64>,
    },
    /// Of a limit on reads or writes of a disk.
    Rate {
        /// The bytes that were read or written.
        bytes: u64,
        /// The operations.
        ios: u64,
        /// The time of the observation.
        seconds: f64,
        /// In the limit's unit.
        rate: f64,
        /// What the workload's processes caused to be written, page cache included; of writes.
        dirtied_bytes: Option<u64>,
    },
    /// Of a set of CPUs or memory nodes.
    Set {
        /// What its processes were allowed to use.
        allowed: String,
        /// v1: the CPUs that were used.
        used: Option<String>,
        /// The CPU time that was used.
        cpu_seconds: Option<f64>,
        /// So many threads wanted a CPU at the same time.
        wanting: Option<usize>,
    },
    /// Of a CPU weight.
    Weight {
        /// The CPU time that was used.
        cpu_seconds: f64,
        /// The CPU time that the weight entitles to.
        expected_seconds: f64,
        /// The used share of all siblings' time, 0 to 1.
        share: f64,
        /// The share that the weight entitles to.
        expected_share: f64,
        /// How much of the time its processes ran or waited for a CPU.
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
    /// How often the limit was run into.
    pub hits: Option<u64>,
    /// The kills that the kernel counted.
    pub oom_kills: Option<u64>,
    /// The same kills, as they were traced; null where nothing was.
    pub victims: Option<Vec<Victim>>,
    /// The highest swap usage.
    pub swap_peak_bytes: Option<u64>,
}

/// A process that the OOM killer chose.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Victim {
    /// The time of the kill.
    pub time: Moment,
    /// The pid, as the host counts.
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
    /// The former by the latter.
    pub cpus: Option<f64>,
    /// The periods of the quota in which the cgroup ran.
    pub periods: Option<u64>,
    /// The periods in which the kernel throttled the cgroup.
    pub throttled_periods: Option<u64>,
    /// How long the kernel throttled it.
    pub throttled_seconds: Option<f64>,
    /// CPU time that the quota gives later where it was not used up before.
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

    /// The worst of them: a fail before what is inconclusive.
    pub fn overall(checks: &[Check]) -> Verdict {
        let deciding = checks.iter().filter(|check| check.decides());
        let verdicts = deciding.map(|check| check.verdict);
        verdicts.max().unwrap_or(Verdict::Inconclusive)
    }
}

impl Check {
    /// Whether its verdict counts.
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

    /// What `agent verify` exits with.
    pub fn status(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Inconclusive => 2,
        }
    }
}
