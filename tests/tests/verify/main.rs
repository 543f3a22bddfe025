//! `agent verify`: its verdicts on what holds and on what was made not to, held against the kernel's own files. On v1,
//! v2 and both at once: `cargo xtask vm` runs these tests in kernels that have v2.

mod bad;
mod caller;
mod cpu;
mod ends;
mod io;
mod known;
mod memory;
mod output;
mod pids;
mod standing;
mod unit;
mod weights;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tests::agent::agent;
use tests::cgroup::{Cgroup, directory};
use tests::run::Container;
use tests::wait::{PATIENCE, wait_for};

/// No server is there: the command traces by itself.
const NOBODY: &str = "off";

/// `agent verify --output json`, with no server and no engine to ask.
fn verify(arguments: &[&str]) -> Command {
    let mut verify = verify_with(NOBODY, "off");
    verify.args(arguments);
    verify
}

/// Likewise, with these sockets of a server and an engine.
fn verify_with(server: impl AsRef<OsStr>, engine: impl AsRef<OsStr>) -> Command {
    let mut verify = agent(["verify", "--output", "json", "--socket"]);
    verify.arg(server).arg("--docker-socket").arg(engine);
    verify.stdin(Stdio::null());
    verify
}

/// What it reports of the one object that it writes.
fn report(verify: &mut Command) -> Value {
    let Output {
        status,
        stdout,
        stderr,
    } = verify.output().expect("it can be run");
    let stderr = String::from_utf8_lossy(&stderr);
    let report: Value = serde_json::from_slice(&stdout).unwrap_or_else(|error| {
        panic!("{error}: {status}: {stderr}");
    });
    assert_ends_as(&report, status.code());
    report
}

/// The exit status goes with the verdict, which is the worst of all, and nothing is left of what was launched.
fn assert_ends_as(report: &Value, status: Option<i32>) {
    let wanted = match verdict(report) {
        "pass" => 0,
        "fail" => 1,
        _ => 2,
    };
    assert_eq!(status, Some(wanted), "{report:#}");
    if !report["workload"].is_null() {
        let names = report["subject"]["name"].as_str().expect("a name");
        names.split(',').for_each(|name| of(name).assert_gone());
    }
}

/// A container of a name that is known.
fn of(name: &str) -> Container {
    let name = name.to_owned();
    Container { name }
}

fn verdict(of: &Value) -> &str {
    of["verdict"].as_str().expect("a verdict")
}

fn reason(check: &Value) -> &str {
    check["reason"].as_str().expect("a reason")
}

/// What is said of the one limit of this name.
fn check<'a>(report: &'a Value, limit: &str) -> &'a Value {
    let all = report["checks"].as_array().expect("a list").iter();
    let found: Vec<_> = all.filter(|check| check["limit"] == limit).collect();
    let [check] = found[..] else {
        panic!("{limit}: {report:#}");
    };
    check
}

/// Checks the verdict on the one limit that is judged, and that the reason has these words: that check.
fn judged(report: &Value, wanted: &str, words: &[&str]) -> Value {
    let checks = report["checks"].as_array().expect("a list");
    let [check] = &checks[..] else {
        panic!("{report:#}");
    };
    assert_verdict(check, wanted, words);
    assert_eq!(verdict(report), wanted);
    check.clone()
}

fn assert_verdict(check: &Value, wanted: &str, words: &[&str]) {
    assert_eq!(verdict(check), wanted, "{check:#}");
    for word in words {
        assert!(reason(check).contains(word), "{word}: {check:#}");
    }
}

/// A verifier that runs, and the container that it launched.
struct Running {
    verifier: Child,
    container: Container,
    /// The path of the workload's cgroup.
    cgroup: String,
}

impl Running {
    /// Starts `agent verify` of a workload that only sleeps, and waits until that does.
    fn start(flags: &[&str]) -> Self {
        let marker = marker();
        Self::of(verify(flags).args(["--", "sleep", &marker]), &marker)
    }

    /// Likewise, of a workload that has a process with `marker` as its last argument.
    fn of(verify: &mut Command, marker: &str) -> Self {
        verify.stdout(Stdio::piped()).stderr(Stdio::piped());
        let verifier = verify.spawn().expect("it can be run");
        let cgroup = wait_for("the workload runs", PATIENCE, || cgroup_of(marker));
        let name = Path::new(&cgroup).file_name().and_then(OsStr::to_str);
        Self {
            verifier,
            container: of(name.expect("a name")),
            cgroup,
        }
    }

    /// A file of its cgroup, by controller and name on v1 and v2.
    fn file(&self, controller: [&str; 2], name: [&str; 2]) -> PathBuf {
        file(&self.cgroup, controller, name)
    }

    /// Waits for the end: the report.
    fn report(self) -> Value {
        let output = self.verifier.wait_with_output().expect("it ends");
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_ends_as(&report, output.status.code());
        report
    }
}

/// A number of seconds to sleep that no other process has.
fn marker() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{}{number:03}", std::process::id())
}

/// The path of the container's cgroup in which there is a process with this last argument. Until it executes its command,
/// it is one of the agent's with the same arguments, and not in all of its cgroups yet.
fn cgroup_of(marker: &str) -> Option<String> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let is_it = |process: &PathBuf| {
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        name.trim() != "agent" && command.ends_with(format!("\0{marker}\0").as_bytes())
    };
    let mut paths = processes.map(|entry| entry.path()).filter(is_it);
    paths.find_map(|process| {
        let cgroups = fs::read_to_string(process.join("cgroup")).ok()?;
        let mut paths = cgroups
            .lines()
            .filter_map(|line| line.splitn(3, ':').nth(2));
        paths
            .find(|path| path.contains("/agent/"))
            .map(str::to_owned)
    })
}

/// A file of a cgroup: that of v1 where the controller is there, else that of v2.
fn file(cgroup: &str, controller: [&str; 2], name: [&str; 2]) -> PathBuf {
    let version = usize::from(!Cgroup::is_v1(controller[0]));
    directory(controller[version], cgroup).join(name[version])
}

const MEMORY: [[&str; 2]; 2] = [
    ["memory", "memory"],
    ["memory.limit_in_bytes", "memory.max"],
];
const PIDS: [[&str; 2]; 2] = [["pids", "pids"], ["pids.max", "pids.max"]];

/// No limit, as the file of memory has it.
fn unlimited() -> &'static str {
    if Cgroup::is_v1("memory") { "-1" } else { "max" }
}

fn write(path: &Path, text: &str) {
    let written = fs::write(path, text);
    written.unwrap_or_else(|error| panic!("{}: {text}: {error}", path.display()));
}
