//! Why a cgroup cannot be made, limited or removed.

use std::io;
use std::path::{Path, PathBuf};

/// Why a cgroup cannot be made, limited or removed.
#[allow(
    missing_docs,
    reason = "the messages document the variants and their fields"
)]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Host(#[from] agent_host::Error),
    #[error(
        "{path:?} is not the path of a cgroup; wanted: one that begins with / and has no . or .. in it"
    )]
    Path { path: String },
    #[error("{} is there already; if no container is in it, remove it with rmdir", path.display())]
    Exists { path: PathBuf },
    #[error("{name} {value} is out of range: wanted is {wanted}")]
    Range {
        name: String,
        value: String,
        wanted: String,
    },
    #[error("{name} is not supported; leave it out")]
    Unsupported { name: String },
    #[error(
        "{name} needs cgroup {wanted}, and this host's {controller} controller is on {found}; leave it out"
    )]
    Version {
        name: String,
        controller: String,
        wanted: &'static str,
        found: &'static str,
    },
    #[error(
        "{name} needs the {controller} controller, which no mounted hierarchy has; see /proc/cgroups, and the kernel's command line for cgroup_disable"
    )]
    NoController { name: String, controller: String },
    #[error("{name} needs the {controller} controller, which is not enabled for it; {advice}")]
    NotEnabled {
        name: String,
        controller: String,
        advice: String,
    },
    #[error("{name} needs {}, which this kernel does not have{hint}", file.display())]
    NoFile {
        name: String,
        file: PathBuf,
        hint: &'static str,
    },
    #[error("{name}: the kernel refuses {text:?} in {}: {source}{hint}", file.display())]
    Refused {
        name: String,
        text: String,
        file: PathBuf,
        source: io::Error,
        hint: &'static str,
    },
    #[error("{name}: wrote {written:?} to {}, and the kernel keeps {kept:?}", file.display())]
    Kept {
        name: String,
        file: PathBuf,
        written: String,
        kept: String,
    },
    #[error(
        "{name} needs a cgroup of its own: {why}; leave {name} out, or run in a scope: \
         systemd-run --user --scope -p Delegate=yes agent run …{subgroup}"
    )]
    NotDelegated {
        name: String,
        why: String,
        /// Further advice, for a cgroup that is delegated.
        subgroup: &'static str,
    },
    #[error(
        "{name} needs the {controller} controller, which is not delegated to this user in {}; leave it out, or have \
         root delegate it (Delegate= of systemd.resource-control(5))",
        cgroup.display()
    )]
    NotPassed {
        name: String,
        controller: String,
        cgroup: PathBuf,
    },
    #[error(
        "--cgroup-parent: {path} is not below a cgroup that is delegated to this user; leave it out"
    )]
    NotOwned { path: String },
    #[error("the user's systemd put this process into {path}, which is not delegated to this user")]
    Scope { path: String },
    #[error(
        "the container's cgroup {path} is delegated to this user, and the one of this process is not ({why}): run \
         systemd-run --user --scope agent exec …"
    )]
    Apart { path: String, why: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is frozen: a container there is paused, and so is every process that joins it; to thaw it, {thaw}", path.display())]
    Frozen { path: PathBuf, thaw: &'static str },
    #[error(
        "{} is out of memory, and its OOM killer is disabled (oom_kill_disable), so that every process that joins it waits; \
         raise memory.limit_in_bytes, or write 0 to memory.oom_control, there or above", path.display()
    )]
    OutOfMemory { path: PathBuf },
    #[error("process {pid} is still in {} after it was killed", path.display())]
    Alive { pid: i32, path: PathBuf },
    #[error("{} cannot be removed: {source}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

impl Error {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}
