//! The built-in jobs: stress-ng against each controller.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use agent_host::devices::disk_below;
use agent_model::units::parse::Size;
use agent_runtime::spec::flags::Flags;
use agent_runtime::spec::value::{Cpus, DeviceRate, MaybeNumber, Set};
use rustix::process::geteuid;

use super::caller::once;
use super::error::Error;
use super::launched::{FindContainer, LimitedCommand, last_cpu};
use super::report::{Check, Report, ReportSubject, Scope};

const STRESS: &str = "stress-ng";

/// The limit of the io job, in bytes per second.
const RATE: u64 = 8 << 20;

/// The weights of the siblings of [`SuiteJob::Weight`].
const WEIGHTS: [u64; 2] = [100, 300];

/// How long the siblings of [`SuiteJob::Weight`] are observed.
pub const SHARING: Duration = Duration::from_secs(5);

/// The parent of the directory for files on a disk.
const SCRATCH: &str = "/var/tmp";

const WITHOUT_DISK: &str = "/var/tmp is on no block device of its own, so the io job is left out";

/// The beginning of the directory's name, which ends with the pid of the process that made it.
const PREFIX: &str = "agent-verify-";

/// The path of the directory in the container.
const INSIDE: &str = "/mnt";

/// A workload of stress-ng, and the limit that it presses against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuiteJob {
    /// A process that uses more memory than its limit.
    Memory,
    /// Processes that want more CPU time than their quota.
    Cpu,
    /// Siblings with different CPU weights.
    Weight,
    /// More processes than the limit.
    Pids,
    /// Writes to a disk, faster than the limit.
    Io,
}

/// A job that is ready to run.
pub struct Prepared {
    /// The command; of [`SuiteJob::Weight`], one for each sibling.
    pub commands: Vec<LimitedCommand>,
    _scratch: Option<Scratch>,
}

impl FromStr for SuiteJob {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let at = Self::NAMES.iter().position(|it| *it == name);
        let all = [Self::Memory, Self::Cpu, Self::Weight, Self::Pids, Self::Io];
        at.and_then(|at| all.get(at).copied())
            .ok_or_else(|| format!("wanted: one of {}", Self::NAMES.join(", ")))
    }
}

impl SuiteJob {
    /// The names of all jobs.
    pub const NAMES: [&'static str; 5] = ["memory", "cpu", "weight", "pids", "io"];

    /// The arguments of stress-ng.
    fn options(self) -> &'static str {
        match self {
            Self::Memory => "--vm 1 --vm-bytes 128m --vm-keep --timeout 3s",
            Self::Cpu => "--cpu 4 --timeout 5s",
            Self::Weight => "--cpu 1 --timeout 60s",
            Self::Pids => "--fork 4 --fork-max 32 --timeout 2s",
            Self::Io => {
                "--hdd 1 --hdd-opts direct --hdd-bytes 64m --hdd-write-size 256k --timeout 5s"
            }
        }
    }

    /// Adds the command and its limit to `flags`. Returns none where the host has no disk for the job.
    ///
    /// # Errors
    /// The flags contradict each other, or the directory on a disk cannot be made.
    pub fn prepare(self, mut flags: Flags, find: FindContainer) -> Result<Option<Prepared>, Error> {
        let arguments = [STRESS].into_iter().chain(self.options().split(' '));
        flags.command = arguments.map(str::to_owned).collect();
        let mut scratch = None;
        match self {
            Self::Memory => flags.limits.memory = Some(Size(64 << 20)),
            Self::Cpu => flags.limits.cpus = Some(Cpus(500_000_000)),
            Self::Pids => flags.limits.pids_limit = Some(MaybeNumber::Number(30)),
            Self::Weight => {
                flags.limits.cpuset_cpus = Some(Set(last_cpu()?));
                return Ok(Some(Prepared {
                    commands: LimitedCommand::with_weights(flags, &WEIGHTS, find)?,
                    _scratch: None,
                }));
            }
            Self::Io => {
                let made = scratch.insert(Scratch::make()?);
                let Some(path) = disk_below(Path::new("/"), &made.path) else {
                    return Ok(None);
                };
                let rate = Size(RATE);
                flags.limits.device_write_bps = vec![DeviceRate { path, rate }];
                let volume = format!("{}:{INSIDE}", made.path.display());
                flags.root.volume = vec![volume.parse().map_err(std::io::Error::other)?];
                flags.process.workdir = Some(INSIDE.into());
            }
        }
        Ok(Some(Prepared {
            commands: vec![LimitedCommand::of(flags, find)?],
            _scratch: scratch,
        }))
    }
}

/// Checks that stress-ng is installed.
///
/// # Errors
/// stress-ng is in no directory of PATH.
pub fn check() -> Result<(), Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path);
    match directories.any(|directory| directory.join(STRESS).is_file()) {
        true => Ok(()),
        false => Err(Error::NoStress),
    }
}

/// Merges the reports of the jobs. `None` stands for a job that was left out because it needs a disk.
#[must_use]
pub fn report(reports: Vec<Option<Report>>) -> Report {
    let mut checks: Vec<Check> = Vec::new();
    let mut notes = Vec::new();
    let cgroup = parent(reports.iter().flatten().next());
    for report in reports {
        let (more, said) = match report {
            Some(report) => (report.checks, report.notes),
            None => (Vec::new(), vec![WITHOUT_DISK.to_owned()]),
        };
        checks.extend(more);
        for note in said {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    let subject = ReportSubject {
        name: "suite".to_owned(),
        cgroup,
    };
    Report::new(Scope::Run, subject, None, once(checks), notes)
}

/// Returns the cgroup that holds those of the jobs: an ordinary user's is below the caller's own.
fn parent(job: Option<&Report>) -> String {
    let parent = job.and_then(|it| it.subject.cgroup.rsplit_once('/'));
    parent.map_or_else(String::new, |(parent, _)| parent.to_owned())
}

/// A directory on a disk, removed on drop. The next suite removes what a killed process left.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make() -> Result<Self, Error> {
        sweep();
        let path = Path::new(SCRATCH).join(format!("{PREFIX}{}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self { path }),
            Err(source) => Err(Error::Scratch { path, source }),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where this fails, the next suite removes it.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes this user's directories of processes that have ended.
fn sweep() {
    for entry in fs::read_dir(SCRATCH).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some(pid) = pid.and_then(|pid| pid.parse::<i32>().ok()) else {
            continue;
        };
        let path = entry.path();
        let own = fs::symlink_metadata(&path)
            .is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw());
        let gone = rustix::process::Pid::from_raw(pid)
            .is_some_and(|pid| rustix::process::test_kill_process(pid).is_err());
        if own && gone {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
