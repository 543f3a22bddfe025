//! Gets this process a scope of the user's systemd, with a cgroup of the user's own. A process that a login shell
//! starts is in a cgroup of root's.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use agent_host::control::Control;
use agent_host::hierarchy::{Hierarchies, Layout, Mounted};
use agent_host::launch;
use agent_host::membership::Membership;
use agent_host::path::with_parents;
use agent_host::process::Process;
use agent_host::user_directory::variable;
use agent_limits::limits::bounds;
use agent_model::limit::Bounds;

use super::Error;
use super::escape::{self, Escape};

/// How long systemd may take to answer, and to move this process.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two checks whether this process has been moved.
const PAUSE: Duration = Duration::from_millis(1);

/// The slice of the units that users start.
const SLICE: &str = "app.slice";

const PROGRAM: &str = "busctl";
const MANAGER: [&str; 3] = [
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
];

/// A scope that this process is in.
#[derive(Debug)]
pub(super) struct Scope {
    /// The path of the scope's cgroup in v2.
    pub path: String,
}

/// Why this process was not put into a scope.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Controllers are on v1, and systemd delegates none of those.
    Version,
    NoManager,
    Escape(Escape),
    /// systemd refuses, or cannot be asked.
    Refused(String),
    Late,
}

impl Scope {
    /// Asks the user's systemd for a scope, and waits until this process is in it. `bounds` are the limits that bind
    /// this process; it must not escape one.
    pub(super) fn ask(
        hierarchies: &Hierarchies,
        v2: &Mounted,
        bounds: &Bounds,
    ) -> Result<Self, Refusal> {
        if hierarchies.layout() != Layout::V2 {
            return Err(Refusal::Version);
        }
        let user = rustix::process::getuid().as_raw();
        let manager = format!("/user.slice/user-{user}.slice/user@{user}.service");
        let there = |path: &str| {
            let directory = hierarchies.directory(v2, path);
            directory.is_some_and(|directory| directory.path.is_dir())
        };
        if launch::is_in_user_namespace() || !there(&manager) {
            return Err(Refusal::NoManager);
        }
        let slice = format!("{manager}/{SLICE}");
        let target = if there(&slice) { &slice } else { &manager };
        let usual_tasks = || most_tasks(user);
        if let Some(escape) = escape::find(hierarchies, v2, bounds, target, usual_tasks) {
            return Err(Refusal::Escape(escape));
        }
        let unit = unit();
        start(user, &unit)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let path = Membership::own(hierarchies.root()).ok();
            let path = path.as_ref().and_then(|own| own.path(v2));
            if let Some(path) = path.filter(|path| path.ends_with(&unit)) {
                return Ok(Self { path: path.into() });
            }
            sleep(PAUSE);
        }
        Err(Refusal::Late)
    }
}

/// Moves this process into a scope, unless it may already start others in the cgroup `target`. For that, the user must
/// own the nearest cgroup above both (cgroups(7)).
pub(super) fn approach(hierarchies: &Hierarchies, v2: &Mounted, target: &str) -> Result<(), Error> {
    let membership = Membership::own(hierarchies.root())?;
    let own = membership.path(v2).unwrap_or("/");
    if is_within_reach(hierarchies, v2, own, target) {
        return Ok(());
    }
    let asked = Scope::ask(hierarchies, v2, &bounds(hierarchies, &membership));
    if asked
        .as_ref()
        .is_ok_and(|scope| is_within_reach(hierarchies, v2, &scope.path, target))
    {
        return Ok(());
    }
    let path = target.to_owned();
    let why = match asked {
        Ok(scope) => scope.path,
        Err(refusal) => format!("{own}; {refusal}"),
    };
    Err(Error::Apart { path, why })
}

fn is_within_reach(hierarchies: &Hierarchies, v2: &Mounted, own: &str, target: &str) -> bool {
    let common = with_parents(own).find(|above| {
        let below = target.strip_prefix(above.trim_end_matches('/'));
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let directory = common.and_then(|common| hierarchies.directory(v2, &common));
    let control = directory.and_then(|it| Control::open(v2.version, &it.path).ok());
    control.is_some_and(|control| control.is_writable())
}

/// Returns a name that no other unit has. It contains the start time, because a pid may be reused while a container of
/// its former owner still runs.
fn unit() -> String {
    let started = Process::new(Path::new("/"), std::process::id()).started();
    let started = started.unwrap_or_default();
    format!("agent-{}-{started}.scope", std::process::id())
}

/// Calls `StartTransientUnit` (org.freedesktop.systemd1(5)).
fn start(user: u32, unit: &str) -> Result<(), Refusal> {
    let pid = std::process::id().to_string();
    let method = ["call"].into_iter().chain(MANAGER);
    let arguments = [
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        unit,
        "fail",
        "5",
        "Description",
        "s",
        "agent run",
        "Delegate",
        "b",
        "true",
        "CollectMode",
        "s",
        "inactive-or-failed",
        "Slice",
        "s",
        SLICE,
        "PIDs",
        "au",
        "1",
        &pid,
        "0",
    ];
    ask(user, method.chain(arguments)).map(drop)
}

/// Returns systemd's default limit of tasks (`DefaultTasksMax`); `None` where systemd does not report it.
fn most_tasks(user: u32) -> Option<u64> {
    let property = ["get-property"].into_iter().chain(MANAGER);
    let said = ask(user, property.chain(["DefaultTasksMax"])).ok()?;
    said.trim().strip_prefix("t ")?.parse().ok()
}

/// Calls the user's systemd through busctl(1), and returns its answer.
fn ask<'a>(user: u32, arguments: impl Iterator<Item = &'a str>) -> Result<String, Refusal> {
    let refused = |why: &str| Refusal::Refused(why.to_owned());
    let mut program = Command::new(PROGRAM);
    program.arg("--user");
    program.arg(format!("--timeout={}", PATIENCE.as_secs()));
    program.args(arguments);
    if variable("XDG_RUNTIME_DIR").is_none() {
        // A shell without a login session, as from su(1), does not have this variable.
        program.env("XDG_RUNTIME_DIR", format!("/run/user/{user}"));
    }
    let output = program.stdin(Stdio::null()).output();
    let output = output.map_err(|error| refused(&format!("{PROGRAM}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(refused(said.lines().next().unwrap_or("it says nothing")))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version => f.write_str(
                "systemd delegates no controllers of cgroup v1: as root, make a cgroup, chown(1) it and move the caller there",
            ),
            Self::NoManager => f.write_str("no systemd of this user runs, to ask for a scope"),
            Self::Escape(escape) => write!(f, "a scope of the user's systemd {escape}"),
            Self::Refused(why) => write!(f, "the user's systemd gives no scope: {why}"),
            Self::Late => write!(
                f,
                "waited {} s for the user's systemd to give this process a scope",
                PATIENCE.as_secs()
            ),
        }
    }
}
