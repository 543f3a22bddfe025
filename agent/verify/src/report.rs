//! What is reported: the contract of `agent verify --output json`.

use agent_limits::limit::Quantity;
use agent_model::clock::Moment;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    Inconclusive,
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

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub verdict: Verdict,
    pub scope: Scope,
    /// What was judged.
    pub subject: Subject,
    /// What was run; null where nothing was.
    pub workload: Option<Workload>,
    pub checks: Vec<Check>,
    /// `PROPERTY=VALUE` of what the systemd unit asks for and nothing here judges: it decides nothing.
    pub not_judged: Vec<String>,
    /// What else one should know.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    pub name: String,
    /// The cgroup's path; on v1 that of the first hierarchy that has a judged limit.
    pub cgroup: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    pub command: Vec<String>,
    /// As the shell has it; null where it was ended at the end of `--for`.
    pub exit: Option<u8>,
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
    pub intended: Option<Intended>,
    /// What was written, by the agent; null where somebody else wrote it.
    pub written: Option<InFile>,
    pub read_back: Option<InFile>,
    pub effective: Option<Effective>,
    pub stimulus: Option<Stimulus>,
    pub observed: Option<Observed>,
    pub tolerance: Option<Tolerance>,
    pub verdict: Verdict,
    /// One sentence.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Intended {
    pub value: Quantity,
    pub source: String,
    /// The caller's cgroup, or the one above it, that has the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InFile {
    pub file: String,
    pub text: String,
    /// Why the kernel keeps something else than was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effective {
    pub value: Quantity,
    /// The cgroup whose limit it is.
    pub cgroup: String,
}

/// Whether the workload came near the limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stimulus {
    pub pressed: bool,
    pub what: String,
}

/// How far off an observation may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tolerance {
    pub value: String,
    pub why: &'static str,
}

/// What the kernel counted, as differences over the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Observed {
    Memory(Memory),
    Cpu(Cpu),
    Pids {
        peak: Option<u64>,
        /// True where the peak is the highest of the samples, as the kernel keeps none.
        peak_sampled: bool,
        refused: Option<u64>,
        /// Those in cgroups below without a limit of their own; null where the kernel counts them where the limit is.
        refused_below: Option<u64>,
    },
    Rate {
        bytes: u64,
        ios: u64,
        seconds: f64,
        /// In the limit's unit.
        rate: f64,
        /// What the workload's processes caused to be written, page cache included; of writes.
        dirtied_bytes: Option<u64>,
    },
    Set {
        /// What its processes were allowed to use.
        allowed: String,
        /// v1: the CPUs that were used.
        used: Option<String>,
        cpu_seconds: Option<f64>,
        /// So many threads wanted a CPU at the same time.
        wanting: Option<usize>,
    },
    Weight {
        cpu_seconds: f64,
        expected_seconds: f64,
        share: f64,
        expected_share: f64,
        /// How much of the time its processes ran or waited for a CPU.
        wanting: f64,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    pub peak_bytes: Option<u64>,
    /// True where the peak is the highest of the samples, as the kernel keeps none.
    pub peak_sampled: bool,
    /// How often the limit was run into.
    pub hits: Option<u64>,
    pub oom_kills: Option<u64>,
    /// The same kills, as they were traced; null where nothing was.
    pub victims: Option<Vec<Victim>>,
    pub swap_peak_bytes: Option<u64>,
}

/// A process that the OOM killer chose.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Victim {
    pub time: Moment,
    pub pid: u32,
    pub comm: String,
    /// Whether it was the container's first process.
    pub init: bool,
    /// The cgroup whose limit was hit; null where none was.
    pub limit_owner: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cpu {
    pub cpu_seconds: Option<f64>,
    pub seconds: f64,
    /// The former by the latter.
    pub cpus: Option<f64>,
    pub periods: Option<u64>,
    pub throttled_periods: Option<u64>,
    pub throttled_seconds: Option<f64>,
    /// CPU time that the quota gives later where it was not used up before.
    pub burst_seconds: Option<f64>,
}

impl Report {
    /// Makes a report with the verdict of all checks.
    pub(crate) fn new(
        scope: Scope,
        subject: Subject,
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
