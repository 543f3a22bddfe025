//! Parses a record: a container's cgroup and its init process, and what else it has on the container.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agent_host::hierarchy::Hierarchies;
use agent_host::membership::Membership;
use agent_host::process::Process as HostProcess;
use agent_registry::claim::{Claim, Confirmation};
use serde::Deserialize;

use super::bundle::OciBundle;
use super::confirm_by_process;
use super::file::Document;

/// The format of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordForm {
    /// An OCI bundle's `config.json`. `pid` names the file in the same directory that holds the pid.
    Bundle { pid: &'static str },
    /// runc's `state.json`.
    Runc,
    /// crun's `status`.
    Crun,
    /// systemd-machined's file for a machine.
    Machine,
    /// The configuration of a container of LXC, which puts cgroups at known paths by default.
    Lxc,
}

/// The contents of a record.
#[derive(Debug)]
pub(super) struct RecordContents {
    cgroup: Stated,
    process: Option<RecordedProcess>,
    user: u32,
    pub about: About,
    /// conmon, which watches a container of podman's or CRI-O's.
    monitor: Option<RecordedProcess>,
}

/// The arguments of conmon.
#[derive(Debug)]
pub(super) struct MonitorArguments(Vec<String>);

impl MonitorArguments {
    /// The container's name.
    pub(super) fn name(&self) -> Option<&str> {
        self.after("-n", 1)
    }

    /// The directory of podman's files: `--exit-command-arg --root --exit-command-arg DIRECTORY`.
    pub(super) fn directory(&self) -> Option<&Path> {
        let path = self.after("--root", 2).map(Path::new);
        path.filter(|path| path.is_absolute())
    }

    fn after(&self, flag: &str, places: usize) -> Option<&str> {
        let at = self.0.iter().position(|it| it == flag)?;
        self.0.get(at + places).map(String::as_str)
    }
}

/// What a record has on a container beside its cgroup and process.
#[derive(Debug)]
pub(super) enum About {
    Nothing,
    Bundle(OciBundle),
    /// The directory or image of the root file system.
    Root(String),
    /// The configuration of a container of LXC.
    Lxc(String),
}

/// How a record names the cgroup.
#[derive(Debug, PartialEq, Eq)]
enum Stated {
    Nowhere,
    /// As in an OCI configuration: a path, or `SLICE:PREFIX:NAME` for systemd.
    OciPath(String),
    /// The path below the root of each hierarchy.
    Path(String),
    /// The default paths of LXC (src/lxc/cgroups/cgroup.h).
    Usual,
    /// The directories of the cgroup, one for each controller.
    Directories(Vec<PathBuf>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RecordedProcess {
    pid: u32,
    started: ProcessStart,
}

/// The start of a process, which distinguishes it from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessStart {
    /// The start time in ticks since boot.
    At(u64),
    /// Not after the time at which the record was written.
    Before(SystemTime),
}

#[derive(Deserialize)]
struct RuncState {
    init_process_pid: u32,
    init_process_start: u64,
    #[serde(default)]
    cgroup_paths: BTreeMap<String, PathBuf>,
}

#[derive(Deserialize)]
struct CrunStatus {
    pid: u32,
    #[serde(rename = "process-start-time")]
    started: Option<u64>,
    #[serde(rename = "cgroup-path")]
    cgroup_path: Option<String>,
}

impl RecordContents {
    /// Reads a record of `user`; `beside` reads a file in the same directory.
    pub(super) fn of(
        form: RecordForm,
        record: &Document,
        beside: impl Fn(&str) -> Option<Document>,
        user: u32,
    ) -> Option<Self> {
        let json = &record.bytes;
        let written = |name: &str| {
            let file = beside(name)?;
            let text = String::from_utf8_lossy(&file.bytes).into_owned();
            RecordedProcess::written(text.trim(), file.written)
        };
        let mut about = About::Nothing;
        let mut monitor = None;
        let (cgroup, process) = match form {
            RecordForm::Bundle { pid } => {
                let bundle = OciBundle::parse(json)?;
                let path = bundle.cgroups_path()?.to_owned();
                about = About::Bundle(bundle);
                monitor = written("conmon.pid");
                (Stated::OciPath(path), written(pid))
            }
            RecordForm::Runc => {
                let state: RuncState = serde_json::from_slice(json).ok()?;
                let process = RecordedProcess {
                    pid: state.init_process_pid,
                    started: ProcessStart::At(state.init_process_start),
                };
                let directories = state.cgroup_paths.into_values().collect();
                (Stated::Directories(directories), Some(process))
            }
            RecordForm::Crun => {
                let status: CrunStatus = serde_json::from_slice(json).ok()?;
                let started = status.started;
                let process = RecordedProcess {
                    pid: status.pid,
                    started: started.map_or(ProcessStart::Before(record.written), ProcessStart::At),
                };
                let path = status.cgroup_path.unwrap_or_default();
                (Stated::Path(absolute(&path)), Some(process))
            }
            RecordForm::Machine => {
                let text = String::from_utf8_lossy(json);
                let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
                about = value("ROOT=").map_or(About::Nothing, |root| About::Root(root.to_owned()));
                (
                    Stated::Nowhere,
                    RecordedProcess::written(value("LEADER=")?, record.written),
                )
            }
            RecordForm::Lxc => {
                about = About::Lxc(String::from_utf8_lossy(json).into_owned());
                (Stated::Usual, None)
            }
        };
        Some(Self {
            cgroup,
            process,
            user,
            about,
            monitor,
        })
    }

    /// Returns the confirmation of `claim` by the record.
    pub(super) fn confirm(
        &self,
        claim: &Claim,
        root: &Path,
        hierarchies: &Hierarchies,
    ) -> Option<Confirmation> {
        let is_alive = |process: &RecordedProcess| process.is_itself(root);
        let stated = Confirmation {
            cgroups: self.stated(claim, hierarchies),
            process: self.process.filter(is_alive).map(|process| process.pid),
            ..Confirmation::of(claim)
        };
        if let Some(confirmation) = stated.first(claim) {
            return Some(confirmation);
        }
        let process = self.process?;
        let membership = Membership::of(root, process.pid).ok()?;
        // The check comes after the read: the process that has the pid now had it when its cgroups were read.
        process.is_itself(root).then_some(())?;
        let confirmation = confirm_by_process(&claim.id, process.pid, &membership)?;
        confirmation.first(claim)
    }

    /// The arguments of conmon for the container `id`. They have the id, so those of another process count for nothing.
    pub(super) fn monitor(&self, root: &Path, id: &str) -> Option<MonitorArguments> {
        let monitor = self.monitor?;
        let arguments = HostProcess::new(root, monitor.pid).arguments().ok()?;
        let arguments = MonitorArguments(arguments);
        let is_its = arguments.after("-c", 1).is_some_and(|it| it == id);
        (is_its && monitor.is_itself(root)).then_some(arguments)
    }

    /// The paths of the container's own cgroups that the record states.
    fn stated(&self, claim: &Claim, hierarchies: &Hierarchies) -> Vec<String> {
        // A record may allow several paths; the claim selects one.
        let claimed = |paths: &mut dyn Iterator<Item = String>| {
            paths.filter(|path| *path == claim.cgroup).collect()
        };
        let paths: Vec<String> = match &self.cgroup {
            Stated::Nowhere => Vec::new(),
            // A runtime without systemd's driver uses the triple as the name of a directory.
            Stated::OciPath(path) => {
                claimed(&mut self.of_systemd(path).into_iter().chain([absolute(path)]))
            }
            Stated::Path(path) => vec![path.clone()],
            Stated::Usual => {
                let above = ["/lxc.payload.", "/lxc.payload/", "/lxc/"];
                claimed(
                    &mut above
                        .map(|above| format!("{above}{}", claim.id))
                        .into_iter(),
                )
            }
            Stated::Directories(directories) => {
                let paths = directories.iter();
                paths.filter_map(|it| hierarchies.path_of(it)).collect()
            }
        };
        let claims = paths.iter().filter_map(|path| Claim::of(path));
        let own = claims.filter(|it| it.id == claim.id && it.runtime == claim.runtime);
        let mut own: Vec<String> = own.map(|it| it.cgroup).collect();
        own.sort();
        own.dedup();
        own
    }

    /// The path of `SLICE:PREFIX:NAME` (runc's libcontainer/cgroups/systemd): for an ordinary user, a scope of the
    /// user's own systemd.
    fn of_systemd(&self, text: &str) -> Option<String> {
        let mut parts = text.splitn(3, ':');
        let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
        let above = match self.user {
            0 => String::new(),
            user => format!("/user.slice/user-{user}.slice/user@{user}.service"),
        };
        let slice = match slice {
            "" if self.user == 0 => "system.slice",
            "" => "user.slice",
            slice => slice,
        };
        let stem = slice.strip_suffix(".slice")?;
        let dashes = stem.match_indices('-').map(|(at, _)| &stem[..at]);
        let slices = dashes.chain([stem]).filter(|it| !it.is_empty());
        let slices: String = slices.map(|it| format!("/{it}.slice")).collect();
        let unit = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        Some(format!("{above}{slices}/{unit}"))
    }
}

fn absolute(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

impl RecordedProcess {
    /// The process whose pid is the text of a file that was written at this time.
    fn written(text: &str, at: SystemTime) -> Option<Self> {
        Some(Self {
            pid: text.parse().ok()?,
            started: ProcessStart::Before(at),
        })
    }

    /// Whether the process that has the pid is the one in the record.
    fn is_itself(&self, root: &Path) -> bool {
        /// The most by which a change of the clock may have moved the time.
        const TOLERANCE: Duration = Duration::from_secs(1);
        let process = HostProcess::new(root, self.pid);
        match self.started {
            ProcessStart::At(ticks) => process.started().is_ok_and(|it| it == ticks),
            ProcessStart::Before(time) => {
                let started = process.started_at();
                started.is_ok_and(|started| started <= time + TOLERANCE)
            }
        }
    }
}
