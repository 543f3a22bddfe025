//! The agent under measurement: what it has open and in memory.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tests::agent::{agent, binary};
use tests::process::{kill, wait_for_end};
use tests::program::program;
use tests::serve::Serve;

/// `agent serve` that ends with this process, however that ends. It does not trace yet.
pub fn spawn() -> Serve {
    Serve::spawn_by(ending_with_us(&Command::new(binary())), &[])
}

/// Likewise, once it traces.
pub fn start() -> Serve {
    let serve = spawn();
    serve.wait_until_it_traces();
    serve
}

/// Likewise, with room for so many open files.
pub fn start_with(files: u64) -> Serve {
    let mut limited = Command::new(program("prlimit"));
    limited.arg(format!("--nofile={files}")).arg(binary());
    let serve = Serve::spawn_by(ending_with_us(&limited), &[]);
    serve.wait_until_it_traces();
    serve
}

/// `command`, killed when this thread ends: the main one.
pub fn ending_with_us(command: &Command) -> Command {
    let mut ending = Command::new("setpriv");
    ending.args(["--pdeathsig", "KILL"]);
    ending.arg(command.get_program()).args(command.get_args());
    ending
}

/// `agent watch --all --output json`, which writes into a file. Dropping it kills it.
pub struct Watcher(Child);

impl Watcher {
    /// Starts it, and waits until its stream is open.
    pub fn start(serve: &Serve, into: &Path) -> Self {
        let before = serve.watchers();
        let mut watch = agent(["watch", "--all", "--output", "json", "--socket"]);
        let child = ending_with_us(watch.arg(serve.socket()))
            .stdin(Stdio::null())
            .stdout(File::create(into).expect("a file for the lines"))
            .spawn()
            .expect("agent watch can be run");
        serve.wait_for_watchers(before + 1);
        Self(child)
    }

    /// Waits for its end, which is that of its stream.
    pub fn wait(mut self) {
        wait_for_end(&mut self.0, "agent watch ends with its server");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

/// Bytes of memory that a process has: VmRSS.
pub fn resident(pid: u32) -> f64 {
    let status = read(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kibibytes.expect("a process has memory") * 1024.0
}

/// How many descriptors a process may have.
pub fn may_open(pid: u32) -> f64 {
    let limits = read(pid, "limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.expect("a process has a limit of open files")
}

fn read(pid: u32, file: &str) -> String {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
