//! Built-in jobs: stress-ng against each controller.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_host::devices::disk_below;
use agent_model::units::parse::Size;
use agent_runtime::spec::flags::Flags;
use agent_runtime::spec::value::{Cpus, DeviceRate, MaybeNumber, Set};
use agent_verify::caller::once;
use agent_verify::report::{Check, Report, Scope, Subject, Verdict};
use anyhow::{Context as _, anyhow};
use rustix::process::geteuid;

use super::arguments::{Args, Weights};
use super::launched::{self, Job as Launched, flags, last_cpu, split};
use super::{Failure, report};

const STRESS: &str = "stress-ng";

/// Bytes a second.
const RATE: u64 = 8 << 20;

/// How long siblings are observed.
const SHARING: Duration = Duration::from_secs(5);

/// The parent of the directory for files on a disk.
const SCRATCH: &str = "/var/tmp";

/// The beginning of its name, which ends with the pid of its process.
const PREFIX: &str = "agent-verify-";

/// Its path in the container.
const INSIDE: &str = "/mnt";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Job {
    Memory,
    Cpu,
    Weight,
    Pids,
    Io,
}

impl Job {
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

    fn flags(self, args: &Args) -> Result<Flags, Failure> {
        let mut flags = flags(args)?;
        let words = [STRESS].into_iter().chain(self.options().split(' '));
        flags.command = words.map(str::to_owned).collect();
        match self {
            Self::Memory => flags.limits.memory = Some(Size(64 << 20)),
            Self::Cpu => flags.limits.cpus = Some(Cpus(500_000_000)),
            Self::Weight => flags.limits.cpuset_cpus = Some(Set(last_cpu()?)),
            Self::Pids => flags.limits.pids_limit = Some(MaybeNumber::Number(30)),
            Self::Io => {}
        }
        Ok(flags)
    }
}

/// `agent verify --suite`.
pub fn run(args: &Args, jobs: &[Job]) -> Result<Report, Failure> {
    if !is_installed(STRESS) {
        let missing =
            "--suite needs stress-ng, which is not in PATH: install the package stress-ng";
        return Err(anyhow!(missing).into());
    }
    super::super::protect()?;
    let mut checks: Vec<Check> = Vec::new();
    let mut notes = Vec::new();
    for job in jobs {
        let report = one(args, *job)?;
        checks.extend(report.checks);
        for note in report.notes {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    let checks = once(checks);
    let subject = Subject {
        name: "suite".to_owned(),
        cgroup: "/agent".to_owned(),
    };
    Ok(report(Scope::Run, subject, None, checks, notes))
}

fn one(args: &Args, job: Job) -> Result<Report, Failure> {
    let mut flags = job.flags(args)?;
    match job {
        Job::Weight => {
            let command = flags.command.clone();
            split(flags, command, SHARING, &Weights(vec![100, 300]))
        }
        Job::Io => {
            let scratch = Scratch::make()?;
            let disk = disk_below(Path::new("/"), &scratch.path);
            let Some(path) = disk else {
                return Ok(without_disk());
            };
            let rate = Size(RATE);
            flags.limits.device_write_bps = vec![DeviceRate { path, rate }];
            let volume = format!("{}:{INSIDE}", scratch.path.display());
            flags.root.volume = vec![volume.parse().map_err(|error: String| anyhow!(error))?];
            flags.process.workdir = Some(INSIDE.into());
            launch(args, flags)
        }
        Job::Memory | Job::Cpu | Job::Pids => launch(args, flags),
    }
}

fn launch(args: &Args, flags: Flags) -> Result<Report, Failure> {
    launched::launch(args, &Launched::of(flags)?)
}

fn without_disk() -> Report {
    let why = format!("{SCRATCH} is on no block device of its own, so the io job is left out");
    let subject = Subject {
        name: String::new(),
        cgroup: String::new(),
    };
    let mut report = report(Scope::Run, subject, None, Vec::new(), vec![why]);
    report.verdict = Verdict::Inconclusive;
    report
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A directory on a disk, removed on drop. The next suite removes what a killed process left.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make() -> anyhow::Result<Self> {
        sweep();
        let path = Path::new(SCRATCH).join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
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
