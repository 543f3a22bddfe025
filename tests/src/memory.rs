//! Memory of cgroups: limits, what does not fit into them, and who is killed for it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::agent::profile;
use crate::cgroup::Cgroup;
use crate::process::{kill, wait_for_end};

/// Sets the limit in bytes.
///
/// # Panics
/// Where the kernel refuses.
pub fn set_limit(cgroup: &Cgroup, bytes: u64) {
    let file = if Cgroup::is_v1("memory") {
        "memory.limit_in_bytes"
    } else {
        "memory.max"
    };
    cgroup.write("memory", file, &bytes.to_string());
}

/// The kernel's own count of processes of this very cgroup that it killed for want of memory.
///
/// # Panics
/// Where it cannot be read.
pub fn oom_kills(cgroup: &Cgroup) -> u64 {
    let file = if Cgroup::is_v1("memory") {
        "memory.oom_control"
    } else {
        "memory.events.local"
    };
    let text = cgroup.read("memory", file);
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
    count.unwrap_or_else(|| panic!("{file} has no oom_kill: {text:?}"))
}

/// Where the program `hog` is: cargo builds it before the tests.
pub fn binary() -> PathBuf {
    profile().join("hog")
}

/// A process that fills memory (`tests/src/bin/hog.rs`). Dropping it kills it.
#[derive(Debug)]
pub struct Hog(Child);

impl Hog {
    /// Starts one in `cgroup`, whose threads write `bytes` together.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(cgroup: &Cgroup, threads: u32, bytes: u64) -> Self {
        Self::spawn(&mut command(cgroup, threads, bytes))
    }

    /// Starts one as engines start the first process of a container: with a mount namespace of its own, before it
    /// enters `cgroup`.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start_first(cgroup: &Cgroup, bytes: u64) -> Self {
        Self::spawn(&mut first(&command(cgroup, 1, bytes)))
    }

    fn spawn(command: &mut Command) -> Self {
        Self(
            command
                .stdout(Stdio::piped())
                .spawn()
                .expect("hog can be run"),
        )
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until all is written; false where it is killed before. The kernel may kill one too many: it takes what a
    /// victim had for free a moment before that is.
    ///
    /// # Panics
    /// Where it ends otherwise.
    pub fn is_full(&mut self) -> bool {
        let mut said = String::new();
        let stdout = self.0.stdout.as_mut().expect("a pipe");
        let read = BufReader::new(stdout).read_line(&mut said);
        read.expect("what hog says");
        if said.is_empty() {
            self.wait_until_killed();
        }
        !said.is_empty()
    }

    /// Sends SIGKILL, and does not wait for the end.
    pub fn signal_kill(&self) {
        // It may have ended meanwhile.
        let _ = kill_process(Pid::from_child(&self.0), Signal::KILL);
    }

    /// Waits for the end, however it comes.
    ///
    /// # Panics
    /// Where it does not come.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for_end(&mut self.0, "hog ends")
    }

    /// Waits until it is killed.
    ///
    /// # Panics
    /// Where it is not, or ends otherwise.
    pub fn wait_until_killed(&mut self) {
        let status = self.wait();
        assert_eq!(status.signal(), Some(9), "{self:?}: {status}");
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

fn command(cgroup: &Cgroup, threads: u32, bytes: u64) -> Command {
    let mut command = cgroup.command(binary());
    command.args([threads.to_string(), bytes.to_string()]);
    command
}

/// The same command, from a mount namespace of its own on.
pub fn first(inside: &Command) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "unchanged"]);
    command.arg(inside.get_program()).args(inside.get_args());
    command
}
