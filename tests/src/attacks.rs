//! The table of attacks: what a container, a user or a file does to reach the host, and who lets it.
//!
//! A row is right where the attack succeeds against our program with the row's guard turned off, and fails against the
//! program as it is. docs/security.md has the outcomes, those of Debian's runc beside them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::agent::{agent, binary};
use crate::program::program;
use crate::slow::{longer, some};

/// The document that shows the table.
const DOCUMENT: &str = include_str!("../../docs/security.md");

/// Which guard a kind of attack is stopped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Lookup,
    Entry,
    Streams,
    Identity,
}

impl Kind {
    /// The guard, as `AGENT_UNGUARDED` takes it (`agent/host/src/faults.rs`).
    #[must_use]
    pub const fn guard(self) -> &'static str {
        match self {
            Self::Lookup => "root-lookup",
            Self::Entry => "entry",
            Self::Streams => "streams",
            Self::Identity => "identity",
        }
    }
}

/// Who launches the container that attacks, or is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// This program.
    Agent,
    /// This program with the guard of this kind turned off.
    Unguarded(Kind),
    /// Debian's runc.
    Runc,
}

/// What came of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It failed.
    Held,
    /// It succeeded.
    Broken,
    /// It cannot be tried against this launcher, and why.
    DoesNotApply(&'static str),
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    pub name: &'static str,
    pub carry_out: fn(Launcher) -> Outcome,
}

impl Launcher {
    /// A call of our program.
    ///
    /// # Panics
    /// For runc, which is no program of ours.
    #[must_use]
    pub fn agent(self, arguments: &[&str]) -> Command {
        let mut call = bounded();
        call.arg(binary()).args(arguments);
        match self {
            Self::Agent => {}
            Self::Unguarded(kind) => drop(call.env("AGENT_UNGUARDED", kind.guard())),
            Self::Runc => panic!("runc takes a bundle: see Bundle"),
        }
        call
    }
}

/// A bundle for runc: what `agent run --print-spec` gives for the same flags.
#[derive(Debug)]
pub struct Bundle {
    directory: TempDir,
    name: String,
}

impl Bundle {
    /// Of a root file system, with flags of `agent run`. Its cgroup is apart from theirs, whose parent may go at any time.
    ///
    /// # Panics
    /// Where the flags are refused.
    #[must_use]
    pub fn new(name: &str, rootfs: &Path, flags: &[&str], command: &[&str]) -> Self {
        let mut print = agent(["run", "--print-spec", "--name", name, "--rootfs"]);
        let printed = print.arg(rootfs).args(flags).arg("--").args(command);
        let printed = printed.output().expect("agent can be run");
        let said = String::from_utf8_lossy(&printed.stderr);
        assert!(printed.status.success(), "{flags:?}: {said}");
        let mut spec: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
        spec["linux"]["cgroupsPath"] = format!("/{name}").into();
        Self::of(name, &spec)
    }

    /// Of a configuration.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[must_use]
    pub fn of(name: &str, spec: &Value) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let text = serde_json::to_vec_pretty(spec).expect("JSON");
        fs::write(directory.path().join("config.json"), text).expect("a file");
        let name = name.to_owned();
        Self { directory, name }
    }

    /// Its configuration, to be changed.
    ///
    /// # Panics
    /// Where `change` leaves no JSON.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.directory.path().join("config.json");
        let text = fs::read(&path).expect("a file");
        let mut spec: Value = serde_json::from_slice(&text).expect("JSON");
        change(&mut spec);
        fs::write(path, serde_json::to_vec(&spec).expect("JSON")).expect("a file");
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where runc keeps what it knows of it.
    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// `runc COMMAND FLAGS`, with a state directory of its own; `run` and `create` get the bundle and the name.
    #[must_use]
    pub fn runc(&self, command: &str, flags: &[&str]) -> Command {
        let mut call = bounded();
        call.arg(program("runc"));
        call.arg("--root").arg(self.state());
        call.arg(command).args(flags);
        if matches!(command, "run" | "create") {
            call.arg("--bundle").arg(self.directory.path());
        }
        call.arg(&self.name);
        call
    }
}

/// A call that ends before long.
fn bounded() -> Command {
    let mut call = Command::new(program("timeout"));
    let seconds = longer(Duration::from_secs(60)).as_secs();
    call.args(["--kill-after=5", &seconds.to_string()]);
    call
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // Most have ended by themselves, or were never runc's.
        if self.state().join(&self.name).exists() {
            let _ = self.runc("delete", &["--force"]).output();
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("held"),
            Self::Broken => f.write_str("broken"),
            Self::DoesNotApply(why) => write!(f, "– ({why})"),
        }
    }
}

/// Carries out all attacks of a kind, against our program with its guard and without, and says what came of them. Against
/// runc, which is only compared with, fewer of them where fewer are asked for.
///
/// # Panics
/// Where one fails against the program without its guard, or succeeds against the program as it is, or where the document
/// says otherwise.
pub fn judge(kind: Kind, attacks: &[Attack]) {
    let mut wrong = Vec::new();
    let names: Vec<_> = attacks.iter().map(|attack| attack.name).collect();
    let documented = documented(kind);
    if documented != names {
        wrong.push(format!("docs/security.md has the rows {documented:?}"));
    }
    let compared: Vec<_> = some(&names, 2).collect();
    for Attack { name, carry_out } in attacks {
        let unguarded = carry_out(Launcher::Unguarded(kind));
        let held = carry_out(Launcher::Agent);
        let mut row = format!("| {name} | {held} | ");
        if compared.contains(&name) {
            row += &format!("{} |", carry_out(Launcher::Runc));
        }
        println!("{row} unguarded: {unguarded}");
        if unguarded != Outcome::Broken {
            wrong.push(format!("{name}: without the guard it is {unguarded}"));
        }
        if held != Outcome::Held {
            wrong.push(format!("{name}: against agent it is {held}"));
        }
        if !DOCUMENT.lines().any(|line| line.starts_with(&row)) {
            wrong.push(format!("docs/security.md has no line `{row}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The names of the rows that the document shows for a kind: below the heading that ends in its guard's name.
fn documented(kind: Kind) -> Vec<&'static str> {
    let heading = format!("(`{}`)", kind.guard());
    let lines = DOCUMENT
        .lines()
        .skip_while(|line| !(line.starts_with('#') && line.ends_with(&heading)));
    let lines = lines.skip(1).take_while(|line| !line.starts_with('#'));
    let rows = lines.filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    // The head of the table.
    rows.skip(1).collect()
}
