//! A container with namespaces of its own, started as engines do: the first process is cloned outside, moves into the
//! container's cgroup, and execs there.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::cgroup::Cgroup;
use crate::nscall;
use crate::process::{Lines, wait_for_end};
use crate::wait::PATIENCE;

/// What a first process says when it runs.
const RUNS: &str = "runs";

/// A container that runs in a cgroup. Dropping it ends it, and removes the cgroup unless that is still wanted.
#[derive(Debug)]
pub struct Container {
    pub cgroup: Arc<Cgroup>,
    /// The first process.
    pub pid: u32,
    /// That of the first process; it ends when its child has ended.
    parent: Child,
    lines: Lines,
}

/// A container's first process: bash.
#[derive(Clone, Copy, Debug)]
pub struct First<'a> {
    /// Which namespaces of its own it has. As a container's first process it is known only with `mnt`.
    pub types: &'a str,
    /// Its pid, which no other may have; else the kernel chooses.
    pub pid: Option<u32>,
    /// What it does.
    pub script: &'a str,
}

impl Default for First<'_> {
    fn default() -> Self {
        Self {
            types: "mnt",
            pid: None,
            // Waits for a line, which may never come.
            script: "read",
        }
    }
}

impl Container {
    /// Starts one with namespaces of these types (`mnt,net`), which does nothing.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(cgroup: impl Into<Arc<Cgroup>>, types: &str) -> Self {
        let first = First {
            types,
            ..First::default()
        };
        Self::run(cgroup, first)
    }

    /// Starts one, or, in a cgroup that has processes already, one more first process.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn run(cgroup: impl Into<Arc<Cgroup>>, first: First<'_>) -> Self {
        let cgroup = cgroup.into();
        let before = cgroup.members();
        let mut parent = first.spawn(&cgroup).spawn().expect("nscall can be run");
        let lines = Lines::of(parent.stdout.take().expect("a pipe"));
        // Only now is the exec over, in all that the kernel tells of it.
        assert_eq!(lines.next(PATIENCE).as_deref(), Some(RUNS));
        let members = cgroup.members();
        let mut new = members.difference(&before).copied();
        Self {
            pid: new.next().expect("it runs"),
            cgroup,
            parent,
            lines,
        }
    }

    /// The next line of its standard output.
    ///
    /// # Panics
    /// Where none comes.
    pub fn line(&self) -> String {
        self.lines.next(PATIENCE).expect("a line")
    }

    /// Sends a line to the standard input of the first process.
    ///
    /// # Panics
    /// Where nobody reads it.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.parent.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{line}").expect("a reader of standard input");
    }

    /// Waits until the first process has ended.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn wait_for_first(&mut self) {
        wait_for_end(&mut self.parent, "the first process ends");
    }

    /// The path of one of its first process's namespaces, by its name in `/proc/PID/ns`.
    pub fn namespace(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.pid)
    }

    /// The inode of that namespace.
    ///
    /// # Panics
    /// Where there is none.
    pub fn inode(&self, name: &str) -> u32 {
        inode(&self.namespace(name))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.cgroup.kill();
        // It ends with its child.
        let _ = self.parent.wait();
    }
}

impl First<'_> {
    /// The call that clones it and waits for its end.
    fn spawn(&self, cgroup: &Cgroup) -> Command {
        let mut inside = cgroup.command("bash");
        inside.args(["-c", &format!("echo {RUNS}; {}", self.script)]);
        let mut spawn = Command::new(nscall::binary());
        if let Some(pid) = self.pid {
            spawn.args(["--pid", &pid.to_string()]);
        }
        spawn.args(["spawn", self.types]);
        spawn.arg(inside.get_program()).args(inside.get_args());
        spawn.stdin(Stdio::piped()).stdout(Stdio::piped());
        spawn
    }
}

/// The inode of the namespace that a path in `/proc/PID/ns` leads to.
///
/// # Panics
/// Where it leads to none.
pub fn inode(path: &str) -> u32 {
    let link = fs::read_link(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let link = link.to_string_lossy();
    let inode = link.trim_end_matches(']').rsplit('[').next();
    let inode = inode.and_then(|it| it.parse().ok());
    inode.unwrap_or_else(|| panic!("{path} leads to no namespace: {link}"))
}
